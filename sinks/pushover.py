"""The Pushover channel."""

from typing import Final
from urllib.parse import urlencode

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.outcome import Outcome
from sinks.request import Request
from sinks.wording import account, cut, headline

API: Final = "https://api.pushover.net/1/messages.json"
MAX_TITLE: Final = 250
MAX_MESSAGE: Final = 1024
MAX_URL: Final = 512
MAX_URL_TITLE: Final = 100
_LEAST_RETRY: Final = 30
_LONGEST_EXPIRE: Final = 10_800


def over(http: Http, api: str = API) -> Channel:
    """The channel over this client."""

    async def tell(telling: Telling) -> Outcome:
        body = urlencode(form(telling)).encode()
        kind = "application/x-www-form-urlencoded"
        return await http.told(
            Request(url=api, key=str(telling.id), body=body, options=telling.options, content_type=kind, secret=True)
        )

    return tell


def form(telling: Telling) -> dict[str, str]:
    """The fields of one message; `html` and `monospace` exclude each other."""
    options = telling.options
    is_html = bool(options.get("html"))
    template = options.get("message") or ""
    message = telling.texts.html(template) if is_html else telling.texts.text(template)
    if len(message) > MAX_MESSAGE:
        message = cut(message, MAX_MESSAGE)
    said = {
        "token": telling.option("token").strip(),
        "user": telling.option("user_key").strip(),
        "title": cut(telling.option("title") or headline(telling.notice), MAX_TITLE),
        "message": message.strip() or cut(account(telling.notice), MAX_MESSAGE),
        "url": _url(telling.option("url")),
        "url_title": cut(telling.option("url_title"), MAX_URL_TITLE),
        "priority": telling.option("priority").strip(),
        "device": telling.option("device"),
        "sound": telling.option("sound"),
        "html": "1" if is_html else "",
        "monospace": "1" if options.get("monospace") and not is_html else "",
        "ttl": str(int(options["ttl"])) if options.get("ttl") else "",
        "timestamp": str(int(telling.made_at.timestamp())),
    }
    if said["priority"] == "2":  # only then may and must it say how long it insists
        said["retry"] = str(max(_LEAST_RETRY, int(options.get("retry", 60))))
        said["expire"] = str(min(_LONGEST_EXPIRE, int(options.get("expire", 3600))))
    return {name: value for name, value in said.items() if value}


def _url(text: str) -> str:
    """Half an address leads nowhere: one that is too long is left out."""
    return text if len(text) <= MAX_URL else ""
