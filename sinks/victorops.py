"""The VictorOps channel (Splunk On-Call)."""

from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Outcome
from sinks.request import Request, encode
from sinks.wording import account, cut, group_hash, headline, is_firing

MAX_STATE: Final = 20_480
_TYPES: Final = frozenset({"CRITICAL", "WARNING", "ACKNOWLEDGEMENT", "INFO", "RECOVERY"})


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        options = telling.options
        url = f"{options['api_url']}{options['api_key'].strip()}/{telling.option('routing_key').strip()}"
        return await http.told(
            Request(url=url, key=str(telling.id), body=encode(message(telling)), options=telling.options)
        )

    return tell


def message(telling: Telling) -> dict[str, Any]:
    """What is sent: one incident there for each group here."""
    kind = telling.option("message_type").upper()
    said = {
        name: cut(telling.texts.text(text), MAX_STATE)
        for name, text in telling.options.get("custom_fields", {}).items()
    }
    return {
        **said,
        "message_type": (kind if kind in _TYPES else "CRITICAL") if is_firing(telling.notice) else "RECOVERY",
        "entity_id": group_hash(telling.notice),
        "entity_display_name": cut(telling.option("entity_display_name") or headline(telling.notice), MAX_STATE),
        "state_message": cut(telling.option("state_message") or account(telling.notice), MAX_STATE),
        "monitoring_tool": telling.option("monitoring_tool"),
    }
