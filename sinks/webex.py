"""The Webex channel: one message of a bot for each notice."""

from typing import Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.posting import posting
from sinks.request import encode
from sinks.wording import account, cut_bytes, headline

MAX_MESSAGE: Final = 7439  # bytes


def over(http: Http) -> Channel:
    """The channel over this client."""
    return posting(http, _body, "api_url")


def _body(telling: Telling) -> bytes:
    usual = escape(f"{headline(telling.notice)}\n{account(telling.notice)}")
    text = telling.option("message", escape=escape) or usual
    return encode({"markdown": cut_bytes(text, MAX_MESSAGE), "roomId": telling.option("room_id")})


def escape(text: str) -> str:
    """Text from outside, so that it mentions nobody: `<@all>` would call the whole room."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
