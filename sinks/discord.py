"""The Discord channel: one embed for each notice, and nobody is pinged by what an alert says."""

from typing import Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.posting import posting
from sinks.request import encode
from sinks.wording import account, cut, headline, is_firing, unpinging

MAX_CONTENT: Final = 2000
MAX_TITLE: Final = 256
MAX_DESCRIPTION: Final = 4096
_MAX_NAME: Final = 80
_RED: Final = 0x992D22
_GREEN: Final = 0x2ECC71


def over(http: Http) -> Channel:
    """The channel over this client."""
    return posting(http, _body)


def _body(telling: Telling) -> bytes:
    embed = {
        "title": cut(telling.option("title") or headline(telling.notice), MAX_TITLE),
        "description": cut(telling.option("message") or account(telling.notice), MAX_DESCRIPTION),
        "color": _RED if is_firing(telling.notice) else _GREEN,
    }
    said = {
        "content": cut(telling.option("content", escape=unpinging), MAX_CONTENT),
        "embeds": [embed],
        "username": cut(telling.option("username"), _MAX_NAME),
        "avatar_url": telling.options.get("avatar_url", ""),
    }
    return encode({name: value for name, value in said.items() if value})
