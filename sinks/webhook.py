"""The webhook channel: Alertmanager's body or ours, signed where secrets are given."""

from datetime import UTC, datetime

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.jinja_texts import words
from sinks.message import incident_body, webhook_body
from sinks.outcome import Outcome
from sinks.request import Request
from sinks.signing import signed


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        options = telling.options
        if options.get("format") == "incidents":
            own = words(options, telling.notice, telling.reason)
            body = incident_body(telling.notice, str(telling.id), telling.reason, telling.made_at, own)
        else:
            body = webhook_body(telling.notice, options, telling.reason)
        return await http.told(
            Request(
                url=options["url"],
                key=str(telling.id),
                body=body,
                options=options,
                headers=signed(options.get("signing_secrets", ()), body, datetime.now(UTC)),
            )
        )

    return tell
