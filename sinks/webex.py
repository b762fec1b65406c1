"""The Webex channel: one message of a bot for each notice."""

from typing import Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Outcome
from sinks.request import Request, encode
from sinks.wording import account, cut_bytes, headline

MAX_MESSAGE: Final = 7439  # bytes


def over(http: Http) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        usual = escape(f"{headline(telling.notice)}\n{account(telling.notice)}")
        text = telling.option("message", escape=escape) or usual
        body = encode({"markdown": cut_bytes(text, MAX_MESSAGE), "roomId": telling.option("room_id")})
        url = telling.options["api_url"]
        return await http.told(Request(url=url, key=str(telling.id), body=body, options=telling.options))

    return tell


def escape(text: str) -> str:
    """Text from outside, so that it mentions nobody: `<@all>` would call the whole room."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
