"""The incident.io channel: Alertmanager's body, no larger than an alert source takes."""

from typing import Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.message import webhook_body
from sinks.posting import posting

MAX_BODY: Final = 512 * 1024


def over(http: Http) -> Channel:
    """The channel over this client."""
    return posting(http, _body, "url")


def _body(telling: Telling) -> bytes:
    body = webhook_body(telling.notice, telling.options, telling.reason)
    if len(body) > MAX_BODY:
        body = webhook_body(telling.notice, {**telling.options, "max_alerts": 1}, telling.reason)
    return body
