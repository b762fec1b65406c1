"""Plays scripts against something that speaks Alertmanager's API v2, and collects what its receivers get."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import ClientSession, web

from tests.differential.batches import Batch, batch_of
from tests.differential.scripts import RELOAD_AT, SECONDS, Action, Pushed, Script
from tests.listener import Listener

_LATE: Final = 0.45
"""A player that is later than this behind its script says so: the machine was too busy for an answer that counts."""


class Collector(Listener):
    """Receivers on one port; the path names the target."""

    def __init__(self) -> None:
        super().__init__("/{target:.*}")
        self.received: list[tuple[float, str, dict[str, Any]]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.received.append((time.time(), request.match_info["target"], await request.json()))
        return web.Response()

    def batches(self, began: datetime, names: set[str]) -> dict[str, list[Batch]]:
        """Script -> what its receivers got, in order."""
        found: dict[str, list[Batch]] = {name: [] for name in names}
        for at, target, body in self.received:
            name = target.split("/")[0].rstrip("x")
            if name in found:
                found[name].append(batch_of(body, target, at - began.timestamp(), began))
        return found


def posted(alert: Pushed, began: datetime) -> dict[str, Any]:
    """One alert as API v2 takes it."""
    body: dict[str, Any] = {"labels": alert.labels, "annotations": alert.annotations}
    for name, seconds in (("startsAt", alert.starts), ("endsAt", alert.ends)):
        if seconds is not None:
            body[name] = (began + timedelta(seconds=seconds)).isoformat()
    return body


class Player:
    """Plays scripts together from one beginning."""

    def __init__(self, url: str, scripts: Sequence[Script], reload: Callable[[], Awaitable[None]]) -> None:
        self._url = url
        self._scripts = scripts
        self._reload = reload
        self._silences: dict[str, str] = {}
        self.began = datetime.now(UTC)
        self.latest = 0.0

    async def play(self) -> None:
        """Until every script has been watched to its end."""
        self.began = datetime.now(UTC)
        timed: dict[float, list[Action]] = {}
        for action in (action for one in self._scripts for action in one.actions):
            timed.setdefault(action.at, []).append(action)
        reload_at = [RELOAD_AT] if any(one.reloads for one in self._scripts) else []
        async with ClientSession(self._url, raise_for_status=True) as client:
            for at in sorted({*timed, *reload_at, SECONDS}):
                await asyncio.sleep(max(0.0, at - self._elapsed()))
                if at in reload_at:
                    await self._reload()
                await asyncio.gather(*(self._do(client, action) for action in timed.get(at, ())))
                self.latest = max(self.latest, self._elapsed() - at)

    def late(self) -> bool:
        """Whether some action came too late for its script."""
        return self.latest > _LATE

    def _elapsed(self) -> float:
        return (datetime.now(UTC) - self.began).total_seconds()

    async def _do(self, client: ClientSession, action: Action) -> None:
        if action.alerts:
            body = [posted(alert, self.began) for alert in action.alerts]
            (await client.post("/api/v2/alerts", json=body)).release()
        elif action.silence:
            async with client.post("/api/v2/silences", json=self._silence(action)) as answer:
                self._silences[action.silence] = (await answer.json())["silenceID"]
        else:
            (await client.delete(f"/api/v2/silence/{self._silences[action.expire]}")).release()

    def _silence(self, action: Action) -> dict[str, Any]:
        return {
            "matchers": [
                {"name": name, "value": value, "isRegex": regex, "isEqual": True}
                for name, value, regex in action.matchers
            ],
            "startsAt": (self.began + timedelta(seconds=action.at)).isoformat(),
            "endsAt": (self.began + timedelta(seconds=action.until)).isoformat(),
            "createdBy": "script",
            "comment": action.silence,
        }
