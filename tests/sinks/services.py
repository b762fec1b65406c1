"""Stand-ins for the services behind channels: each refuses what the real one would refuse, and keeps the rest."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

Said = dict[str, Any]


class Refusal(Exception):  # noqa: N818 - what a service answers, no error of ours
    """What is wrong with a request."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Service:
    """One service; `taken` are the calls it took as (path, what was said)."""

    def __init__(self, judge: Callable[[str, Mapping[str, str], Said], Said | str]) -> None:
        self.taken: list[tuple[str, Said]] = []
        self.refused: list[str] = []
        self.url = ""
        self._judge = judge

    async def handle(self, request: web.Request) -> web.Response:
        data = await request.read()
        said = _form(data) if "urlencoded" in request.headers["Content-Type"] else json.loads(data)
        try:
            answer = self._judge(f"{request.method} {request.path_qs}", request.headers, said)
        except Refusal as refusal:
            self.refused.append(str(refusal))
            return web.json_response({"ok": False, "status": "invalid", "error": str(refusal)}, status=refusal.status)
        self.taken.append((request.path_qs, said))
        if isinstance(answer, str):
            return web.Response(text=answer)
        return web.json_response(answer, status=202 if "requestId" in answer or "dedup_key" in answer else 200)


@asynccontextmanager
async def serving(judge: Callable[[str, Mapping[str, str], Said], Said | str]) -> AsyncIterator[Service]:
    service = Service(judge)
    app = web.Application(client_max_size=8 << 20)
    app.router.add_route("*", "/{rest:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()


def pagerduty(call: str, _headers: Mapping[str, str], said: Said) -> Said:
    """Events API v2."""
    payload = said.get("payload", {})
    _need(call == "POST /v2/enqueue", "no such call", 404)
    _need(len(said["routing_key"]) == 32, "routing_key must have 32 letters")
    _need(said["event_action"] in {"trigger", "acknowledge", "resolve"}, "event_action")
    _need(0 < len(said["dedup_key"]) <= 255, "dedup_key")
    _need(0 < len(payload["summary"]) <= 1024, "summary")
    _need(bool(payload["source"]), "source")
    _need(payload["severity"] in {"critical", "error", "warning", "info"}, "severity")
    _need(isinstance(payload["custom_details"], dict), "custom_details")
    _need(len(json.dumps(said, ensure_ascii=False).encode()) <= 524_288, "too large", 413)
    _need(all(link.get("href") for link in said["links"]), "links need href")
    _need(all(image.get("src") for image in said["images"]), "images need src")
    return {"status": "success", "message": "Event processed", "dedup_key": said["dedup_key"]}


def slack_webhook(_call: str, _headers: Mapping[str, str], said: Said) -> str:
    """Incoming webhooks."""
    _attachments(said)
    return "ok"


class SlackApi:
    """`chat.postMessage` and `chat.update`, with the messages as they stand. Errors come as 200, as Slack's do."""

    def __init__(self) -> None:
        self.messages: dict[str, Said] = {}
        self.seen: set[str] = set()
        self.error = ""

    def __call__(self, call: str, headers: Mapping[str, str], said: Said) -> Said:
        if self.error:
            return {"ok": False, "error": self.error}
        if headers.get("Authorization") != "Bearer xoxb-1":
            return {"ok": False, "error": "invalid_auth"}
        if call == "POST /api/chat.update":
            if said["ts"] not in self.messages:
                return {"ok": False, "error": "message_not_found"}
            _need(said["channel"] == "C1", "channel_not_found")
            self.messages[said["ts"]] |= said
            return {"ok": True, "ts": said["ts"], "channel": "C1"}
        _need(call == "POST /api/chat.postMessage", "unknown_method", 404)
        _need(bool(said.get("text")) or bool(said.get("attachments")), "no_text")
        _need(len(said.get("text", "")) <= 3000, "msg_too_long")
        if said.get("attachments"):
            _attachments(said)
        ts = f"1.{len(self.messages)}"
        if said["client_msg_id"] not in self.seen:
            self.seen.add(said["client_msg_id"])
            self.messages[ts] = said
        return {"ok": True, "ts": ts, "channel": "C1"}


def opsgenie(call: str, headers: Mapping[str, str], said: Said) -> Said:
    """Alert API."""
    _need(headers["Authorization"] == "GenieKey key", "Could not authenticate", 401)
    method, _, path = call.partition(" ")
    if path == "/v2/alerts":
        _need(method == "POST", "method", 405)
        _need(0 < len(said["message"]) <= 130, "message")
        _need(0 < len(said["alias"]) <= 512, "alias")
        _need(len(said.get("description", "")) <= 15_000, "description")
        _need(sum(map(len, said.get("details", {}).values())) <= 8000, "details")
        _need(all(one["type"] in {"team", "user", "escalation", "schedule"} for one in said.get("responders", ())), "r")
    else:
        action, _, by = path.rpartition("/")[2].partition("?")
        _need(action in {"close", "message", "description"} and by == "identifierType=alias", path, 404)
    return {"result": "Request will be processed", "took": 0.1, "requestId": "r"}


def discord(_call: str, _headers: Mapping[str, str], said: Said) -> Said:
    """Webhooks."""
    _need(len(said.get("content", "")) <= 2000, "content")
    _need(len(said["embeds"]) <= 10, "embeds")
    for embed in said["embeds"]:
        _need(len(embed["title"]) <= 256, "title")
        _need(0 < len(embed["description"]) <= 4096, "description")
        _need(0 <= embed["color"] <= 0xFFFFFF, "color")
    return {}


def teams(_call: str, _headers: Mapping[str, str], said: Said) -> str:
    """Connectors and workflows."""
    _need(len(json.dumps(said).encode()) <= 28 * 1024 * 4, "too large", 413)
    if said.get("@type") == "MessageCard":
        _need(bool(said.get("summary")) or bool(said.get("text")), "Summary or Text is required.")
        _need(int(said["themeColor"], 16) >= 0, "themeColor")
        return "1"
    [attachment] = said["attachments"]
    _need(said["type"] == "message", "type")
    _need(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "contentType")
    _need(attachment["content"]["type"] == "AdaptiveCard", "card")
    _need(all(block["type"] == "TextBlock" and block["text"] for block in attachment["content"]["body"]), "body")
    return ""


def telegram(call: str, _headers: Mapping[str, str], said: Said) -> Said:
    """Bot API."""
    _need(call == "POST /bot12:ab/sendMessage", "Not Found", 404)
    _need(0 < len(said["text"]) <= 4096, "Bad Request: message is too long")
    if said.get("parse_mode") == "HTML":
        _Markup().judge(said["text"])
    return {"ok": True, "result": {"message_id": 1}}


def pushover(_call: str, _headers: Mapping[str, str], said: Said) -> Said:
    """Message API."""
    _need(said["token"] == "t" * 30 and said["user"] == "u" * 30, "token or user invalid")
    _need(0 < len(said["message"]) <= 1024, "message")
    for name, limit in (("title", 250), ("url", 512), ("url_title", 100)):
        _need(len(said.get(name, "")) <= limit, name)
    if said.get("priority") == "2":
        _need(int(said["retry"]) >= 30 and int(said["expire"]) <= 10_800, "retry and expire")
    _need(not (said.get("html") and said.get("monospace")), "html and monospace")
    return {"status": 1, "request": "r"}


def victorops(call: str, _headers: Mapping[str, str], said: Said) -> Said:
    """REST endpoint."""
    _need(call == "POST /alert/key/team", "no such call", 404)
    _need(said["message_type"] in {"CRITICAL", "WARNING", "ACKNOWLEDGEMENT", "INFO", "RECOVERY"}, "message_type")
    _need(bool(said["entity_id"]), "entity_id")
    _need(len(said["state_message"]) <= 20_480, "state_message")
    return {"result": "success"}


def webex(_call: str, headers: Mapping[str, str], said: Said) -> Said:
    """Messages API."""
    _need(headers["Authorization"] == "Bearer w", "unauthorized", 401)
    _need(0 < len(said["markdown"].encode()) <= 7439, "markdown")
    _need(bool(said["roomId"]), "roomId")
    return {"id": "m"}


def mattermost(_call: str, _headers: Mapping[str, str], said: Said) -> str:
    """Incoming webhooks."""
    _need(bool(said.get("text") or said.get("attachments")), "no text")
    for attachment in said["attachments"]:
        _need(bool(attachment["fallback"]), "fallback")
        _need(bool(attachment.get("text") or attachment.get("title")), "empty attachment")
        _need(all(len(attachment.get(name, "")) <= 16_383 for name in ("text", "pretext", "title")), "too long")
    priority = said.get("priority", {"priority": "standard", "requested_ack": False, "persistent_notifications": False})
    _need(priority["priority"] in {"standard", "important", "urgent"}, "priority")
    _need(not priority["requested_ack"] or priority["priority"] != "standard", "requested_ack")
    _need(not priority["persistent_notifications"] or priority["priority"] == "urgent", "persistent_notifications")
    return "ok"


def rocketchat(call: str, headers: Mapping[str, str], said: Said) -> Said:
    """`chat.postMessage`. Refusals of a message come as 200."""
    _need(call == "POST /api/v1/chat.postMessage", "no such call", 404)
    _need((headers["X-User-Id"], headers["X-Auth-Token"]) == ("user", "token"), "unauthorized", 401)
    [attachment] = said["attachments"]
    fits = len(attachment.get("text", "")) <= 5000 and 0 < len(attachment["title"]) <= 1024
    return {"success": True} if said.get("channel") and fits else {"success": False, "error": "error-invalid"}


def incidentio(_call: str, headers: Mapping[str, str], said: Said) -> Said:
    """An alert source."""
    _need(headers["Authorization"] == "Bearer i", "unauthorized", 401)
    _need(bool(said["alerts"]) and said["status"] in {"firing", "resolved"}, "alerts")
    return {"status": "success"}


class _Markup(HTMLParser):
    """Refuses what Telegram's parser refuses: other tags, and tags that do not nest."""

    def judge(self, text: str) -> None:
        self.open: list[str] = []
        self.feed(text)
        self.close()
        _need(not self.open, "Bad Request: can't parse entities: Can't find end tag")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        allowed = {"b", "strong", "i", "em", "u", "s", "a", "code", "pre", "tg-spoiler", "blockquote"}
        _need(tag in allowed, f"Bad Request: can't parse entities: Unsupported start tag {tag}")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        _need(bool(self.open) and self.open.pop() == tag, "Bad Request: can't parse entities: Unmatched end tag")


def _attachments(said: Said) -> None:
    _need(0 < len(said["attachments"]) <= 100, "too_many_attachments")
    for attachment in said["attachments"]:
        for name in ("text", "pretext", "fallback"):
            _need(len(attachment.get(name, "")) <= 3000, "msg_too_long")
        _need(bool(attachment.get("fallback") or attachment.get("text")), "no_text")


def _form(data: bytes) -> Said:
    return {name: values[0] for name, values in parse_qs(data.decode()).items()}


def _need(holds: bool, reason: str, status: int = 400) -> None:
    if not holds:
        raise Refusal(reason, status)
