"""Channels that are one POST to the integration's own address."""

from collections.abc import Callable

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Outcome
from sinks.request import Request


def posting(http: Http, body_of: Callable[[Telling], bytes], address: str = "webhook_url") -> Channel:
    """The channel that posts what `body_of` makes of a telling to what the option `address` names."""

    async def tell(telling: Telling) -> Outcome:
        options = telling.options
        return await http.told(
            Request(url=options[address], key=str(telling.id), body=body_of(telling), options=options)
        )

    return tell
