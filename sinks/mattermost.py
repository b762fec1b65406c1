"""The Mattermost channel: an incoming webhook that takes attachments as Slack's does."""

from collections.abc import Mapping
from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.posting import posting
from sinks.request import encode
from sinks.wording import account, cut, headline, unpinging

MAX_TEXT: Final = 16_383
_MAX_SHORT: Final = 1024
_PARTS: Final = (
    "fallback", "color", "pretext", "text", "author_name", "author_link", "author_icon", "title", "title_link",
    "thumb_url", "footer", "footer_icon", "image_url",
)  # fmt: skip
_URGENT: Final = "urgent"
_PRIORITIES: Final = frozenset({_URGENT, "important"})

Said = dict[str, Any]


def over(http: Http) -> Channel:
    """The channel over this client."""
    return posting(http, lambda telling: encode(message(telling)))


def message(telling: Telling) -> Said:
    """What is sent: the attachments that are written, else one of the integration's own texts."""
    options = telling.options
    written = options.get("attachments") or ()
    said: Said = {
        name: cut(telling.option(name), _MAX_SHORT)
        for name in ("channel", "username", "icon_url", "icon_emoji", "type")
    }
    said["text"] = _text(telling, options.get("text") or "") if written else ""
    said["attachments"] = [_attachment(telling, one) for one in written or (options,)]
    if card := telling.texts.text((options.get("props") or {}).get("card") or ""):
        said["props"] = {"card": cut(card, MAX_TEXT)}
    if options.get("priority"):
        said["priority"] = _priority(telling, options["priority"])
    return {name: value for name, value in said.items() if value}


def _attachment(telling: Telling, parts: Mapping[str, Any]) -> Said:
    said: Said = {name: _text(telling, parts.get(name) or "") for name in _PARTS}
    if not said["text"].strip() and not said["title"].strip():
        said |= {"title": unpinging(headline(telling.notice)), "text": unpinging(account(telling.notice))}
    said["fallback"] = said["fallback"].strip() or unpinging(headline(telling.notice))
    said["fields"] = [
        {**field, "title": _text(telling, field["title"]), "value": _text(telling, field["value"])}
        for field in parts.get("fields") or ()
    ]
    return {name: value for name, value in said.items() if value}


def _text(telling: Telling, template: str) -> str:
    return cut(telling.texts.text(template, escape=unpinging), MAX_TEXT)


def _priority(telling: Telling, wanted: Mapping[str, Any]) -> Said:
    """Only what matters may ask for an answer, and only what is urgent may ask again: the server refuses the rest."""
    name = telling.texts.text(wanted.get("priority") or "").lower()
    name = name if name in _PRIORITIES else "standard"
    return {
        "priority": name,
        "requested_ack": bool(wanted.get("requested_ack")) and name in _PRIORITIES,
        "persistent_notifications": bool(wanted.get("persistent_notifications")) and name == _URGENT,
    }
