"""The two channels of Microsoft Teams: message cards of connectors, and adaptive cards of workflows."""

from typing import Any, Final

from sinks.channel import Channel, Telling
from sinks.http import Http
from sinks.posting import posting
from sinks.request import encode
from sinks.wording import account, cut, cut_bytes, headline, is_firing

MAX_TITLE: Final = 500
MAX_TEXT: Final = 20_000  # of the 28 KB that a message may have, as bytes before JSON's escapes
_RED: Final = "8C1A1A"
_GREEN: Final = "2DC72D"


def connector_over(http: Http) -> Channel:
    """`msteams`: incoming webhooks of Office 365 connectors."""
    return posting(http, lambda telling: encode(message_card(telling)))


def workflow_over(http: Http) -> Channel:
    """`msteamsv2`: webhooks of Power Automate workflows."""
    return posting(http, lambda telling: encode(adaptive_card(telling)))


def message_card(telling: Telling) -> dict[str, Any]:
    """The legacy card."""
    return {
        "@context": "http://schema.org/extensions",
        "@type": "MessageCard",
        "title": _title(telling),
        "summary": cut(telling.option("summary"), MAX_TITLE),
        "text": _text(telling),
        "themeColor": _RED if is_firing(telling.notice) else _GREEN,
    }


def adaptive_card(telling: Telling) -> dict[str, Any]:
    """The card of workflows."""
    color = "attention" if is_firing(telling.notice) else "good"
    title = {"type": "TextBlock", "weight": "Bolder", "size": "Medium", "wrap": True, "style": "heading"}
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {**title, "color": color, "text": _title(telling)},
            {"type": "TextBlock", "wrap": True, "text": _text(telling)},
        ],
        "msteams": {"width": "full"},
    }
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": content,
    }
    return {"type": "message", "attachments": [attachment]}


def _title(telling: Telling) -> str:
    return cut(telling.option("title") or headline(telling.notice), MAX_TITLE)


def _text(telling: Telling) -> str:
    return cut_bytes(telling.option("text") or account(telling.notice), MAX_TEXT)
