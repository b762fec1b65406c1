"""The PagerDuty channel: Events API v2, one incident there for each group here."""

from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Failed, Outcome, Reason
from sinks.request import Request, encode
from sinks.wording import cut, group_hash, headline, is_firing

MAX_SUMMARY: Final = 1024
MAX_EVENT: Final = 512_000
_MAX_TEXT: Final = 1024
_MAX_ITEMS: Final = 50
_SEVERITIES: Final = frozenset({"critical", "error", "warning", "info"})
_PAYLOAD: Final = ("class", "component", "group")


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        key = telling.option("routing_key").strip()
        if not key:
            return Failed(Reason.REFUSED_TARGET, "the routing_key, a template, gives nothing")
        return await http.told(
            Request(
                url=telling.options["url"],
                key=str(telling.id),
                body=_bounded(event(telling, key)),
                options=telling.options,
                secret=True,
            )
        )

    return tell


def event(telling: Telling, routing_key: str) -> dict[str, Any]:
    """The event: a trigger while something fires, a resolve after that."""
    options = telling.options
    severity = telling.option("severity").lower() or "error"
    payload = {
        "summary": cut(telling.option("description") or headline(telling.notice), MAX_SUMMARY),
        "source": cut(telling.option("source") or telling.notice.incident.team, _MAX_TEXT),
        "severity": severity if severity in _SEVERITIES else "error",
        "custom_details": {name: telling.texts.text(text) for name, text in options.get("details", {}).items()},
    }
    payload |= {name: cut(text, _MAX_TEXT) for name in _PAYLOAD if (text := telling.option(name))}
    return {
        "routing_key": routing_key,
        "dedup_key": group_hash(telling.notice),
        "event_action": "trigger" if is_firing(telling.notice) else "resolve",
        "payload": payload,
        "client": cut(telling.option("client"), _MAX_TEXT),
        "client_url": cut(telling.option("client_url"), _MAX_TEXT),
        "images": _rendered(telling, "images", needed="src"),
        "links": _rendered(telling, "links", needed="href"),
    }


def _rendered(telling: Telling, option: str, *, needed: str) -> list[dict[str, str]]:
    items = [
        {name: cut(telling.texts.text(template), _MAX_TEXT) for name, template in item.items()}
        for item in telling.options.get(option, ())[:_MAX_ITEMS]
    ]
    return [{name: text for name, text in item.items() if text} for item in items if item.get(needed)]


def _bounded(said: dict[str, Any]) -> bytes:
    """The event's JSON; details that do not fit are cut, the longest first, until they do."""
    body = encode(said)
    details: dict[str, str] = said["payload"]["custom_details"]
    while len(body) > MAX_EVENT and any(details.values()):
        longest = max(details, key=lambda name: len(details[name]))
        keep = len(details[longest]) // 2
        details[longest] = cut(details[longest], keep) if keep > 1 else ""
        body = encode(said)
    return body
