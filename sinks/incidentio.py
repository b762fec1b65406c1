"""The incident.io channel: Alertmanager's body, no larger than an alert source takes."""

from typing import Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.message import webhook_body
from sinks.outcome import Outcome
from sinks.request import Request

MAX_BODY: Final = 512 * 1024


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        options = telling.options
        body = webhook_body(telling.notice, options, telling.reason)
        if len(body) > MAX_BODY:
            body = webhook_body(telling.notice, {**options, "max_alerts": 1}, telling.reason)
        return await http.told(Request(url=options["url"], key=str(telling.id), body=body, options=options))

    return tell
