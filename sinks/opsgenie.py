"""The Opsgenie channel: an alert is created while something fires and closed after that."""

import re
from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.message import common
from sinks.outcome import Outcome, Sent
from sinks.request import Request, encode
from sinks.wording import account, cut, group_hash, headline, is_firing

MAX_MESSAGE: Final = 130
_MAX_DESCRIPTION: Final = 15_000
_MAX_SOURCE: Final = 100
_MAX_NOTE: Final = 25_000
_MAX_DETAILS: Final = 8_000
_MAX_ENTITY: Final = 512
_MAX_WORDS, _MAX_WORD = 20, 50  # tags, and letters of one
_TEAM: Final = re.compile(r"\s*,\s*")


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        outcome: Outcome = Sent()
        for method, path, said in calls(telling):
            outcome = await http.told(
                Request(
                    method=method,
                    url=f"{telling.options['api_url']}v2/alerts{path}",
                    key=str(telling.id),
                    body=encode(said),
                    options=telling.options,
                    headers={"Authorization": f"GenieKey {telling.option('api_key').strip()}"},
                )
            )
            if not isinstance(outcome, Sent):
                return outcome
        return outcome

    return tell


def calls(telling: Telling) -> list[tuple[str, str, dict[str, Any]]]:
    """What is asked of the API: method, path below `v2/alerts`, body."""
    alias = group_hash(telling.notice)
    by_alias = "?identifierType=alias"
    source = cut(telling.option("source"), _MAX_SOURCE)
    if not is_firing(telling.notice):
        return [("POST", f"/{alias}/close{by_alias}", {"source": source})]
    made = _alert(telling, alias, source)
    todo: list[tuple[str, str, dict[str, Any]]] = [("POST", "", made)]
    if telling.options.get("update_alerts"):
        todo.append(("PUT", f"/{alias}/message{by_alias}", {"message": made["message"]}))
        todo.append(("PUT", f"/{alias}/description{by_alias}", {"description": made["description"]}))
    return todo


def _alert(telling: Telling, alias: str, source: str) -> dict[str, Any]:
    options = telling.options
    details = common([alert.labels for alert in telling.notice.alerts])
    details |= {name: telling.texts.text(text) for name, text in options.get("details", {}).items()}
    said = {
        "alias": alias,
        "message": cut(telling.option("message") or headline(telling.notice), MAX_MESSAGE),
        "description": cut(telling.option("description") or account(telling.notice), _MAX_DESCRIPTION),
        "details": {name: cut(text, _MAX_DETAILS // max(1, len(details))) for name, text in details.items()},
        "source": source,
        "responders": [one for given in options.get("responders", ()) for one in _responders(telling, given)],
        "tags": _listed(telling.option("tags")),
        "note": cut(telling.option("note"), _MAX_NOTE),
        "priority": telling.option("priority"),
        "entity": cut(telling.option("entity"), _MAX_ENTITY),
        "actions": _listed(telling.option("actions")),
    }
    return {name: value for name, value in said.items() if value}


def _responders(telling: Telling, given: dict[str, str]) -> list[dict[str, str]]:
    """The type `teams` stands for several teams, named with commas between them."""
    made = {name: text for name, template in given.items() if (text := telling.texts.text(template))}
    if made.get("type", "").lower() == "teams":
        return [{"name": name, "type": "team"} for name in _TEAM.split(made.get("name", "")) if name]
    return [{**made, "type": made.get("type", "").lower()}] if len(made) > 1 else []


def _listed(text: str) -> list[str]:
    return [cut(part, _MAX_WORD) for part in (part.strip() for part in text.split(",")) if part][:_MAX_WORDS]
