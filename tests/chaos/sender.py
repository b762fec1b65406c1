"""The senders, as a process of their own: events by seed over RabbitMQ and HTTP, and the ledger of what they were told.

What the ledger calls confirmed was confirmed by RabbitMQ or answered 2xx. A 429
or 503 asks to come again and says nothing of what was done, so that an event
which heard only that is unknown, as is one whose answer was cut off. Half of
the unknown are sent again under their id, as good senders do; those of stories
always, in their order.
"""

import contextlib
import http.client
import json
import queue
import random
import select
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from loadtests.amqp_publisher import Publisher, PublisherError, Sent
from loadtests.ledger_file import Outcome
from loadtests.mixes import Event, Intent, Mix, Shares, WireAlert, body
from tests.chaos.ledger import LedgerFile
from tests.chaos.stories import ALERTNAME, Step, Story

SHARES: Final = Shares(new=0.12, resolve=0.115, change=0.04, copy=0.02, bad=0.005, refire=0.3, cells=2)
_TICK_S: Final = 0.01
_CONFIRM_S: Final = 15.0
_SEND_S: Final = 5.0
_HTTP_THREADS: Final = 4
_HTTP_S: Final = 6.0
_UNUSED_S: Final = 30.0
"""A connection that nobody used for so long is made anew: the gateway may be closing it (after 75 s) meanwhile."""
_GIVE_UP_S: Final = 90.0
_BACKLOG: Final = 50_000
_AGAIN: Final = 0.5
_ROUTING_KEY: Final = "llm.alert"
_PATH: Final = "/api/v1/alerts"


class SenderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, where to, and where the ledger goes. `http_share` of the storm goes over HTTP."""

    run: str
    seed: int
    rate: float
    seconds: float
    folder: str
    http: str
    amqp: str
    exchange: str
    http_share: float = 0.1
    stories: tuple[Story, ...] = ()
    window: float = 0.0
    """Seconds within which a firing opens a story's incident again."""
    hot: int = 0
    """So many copies of one alert are sent besides, each as an event of its own, as fast as they go."""


class Telling:
    """Where a story stands: the next step waits until the one before is confirmed, and then as long as was written."""

    def __init__(self, story: Story, window: float) -> None:
        self.story = story
        self.window = window
        self.place = 0
        self.under_way = False
        self.is_broken = False
        """Whether an alert that should have fired within the window may have fired after it."""
        self._due_at = story.steps[0].at
        self._began_at = 0.0

    @property
    def is_told(self) -> bool:
        return self.place == len(self.story.steps)

    def due(self, now: float) -> Step | None:
        if self.under_way or self.is_told or self._due_at > now:
            return None
        self.under_way = True
        step = self.story.steps[self.place]
        if not step.fires:
            self._began_at = now
        return step

    def confirmed(self, now: float) -> None:
        before = self.story.steps[self.place]
        self.place += 1
        if not self.is_told:
            after = self.story.steps[self.place]
            self._due_at = now + after.at - before.at
        earlier = self.story.steps[self.place - 2] if self.place > 1 else before
        if before.fires > earlier.fires and before.at - earlier.at < self.window <= now - self._began_at:
            self.is_broken = True
        self.under_way = False


class Letter(msgspec.Struct, kw_only=True):
    """One event on its way; `telling` is the story that waits for it."""

    event: Event
    telling: Telling | None = None
    first_us: int = 0


class Sender:
    """Sends until the time is over and everything is told."""

    def __init__(self, plan: SenderPlan) -> None:
        self.plan = plan
        folder = Path(plan.folder)
        self.ledger = LedgerFile(folder / "senders.tsv")
        self.answers = (folder / "http.tsv").open("a", encoding="utf-8")
        self.answering = threading.Lock()
        self.chance = random.Random(f"sender {plan.seed}")
        self.mix = Mix(plan.run, plan.seed, SHARES)
        self.tellings = [Telling(story, plan.window) for story in plan.stories]
        self.backlog: deque[Letter] = deque(maxlen=_BACKLOG)
        self.over_http: queue.SimpleQueue[Letter | None] = queue.SimpleQueue()
        self.in_http = 0
        self.publisher: Publisher | None = None
        self.letters: dict[str, Letter] = {}
        self.oldest_at = 0.0
        self.connect_at = 0.0
        self.began = 0.0
        self.hot_left = plan.hot

    def run(self) -> None:
        threads = [threading.Thread(target=self._http, daemon=True) for _ in range(_HTTP_THREADS)]
        for thread in threads:
            thread.start()
        self.began = time.monotonic()
        drawn = 0
        while (now := time.monotonic() - self.began) < self.plan.seconds or self._unfinished(now):
            wanted = int(min(now, self.plan.seconds) * self.plan.rate)
            while drawn < wanted:
                self._place(Letter(event=self.mix.next()))
                drawn += 1
            self._tell(now)
            self._heat()
            self._amqp()
            self.ledger.sync()
            time.sleep(_TICK_S)
        for _ in threads:
            self.over_http.put(None)
        for thread in threads:
            thread.join(_HTTP_S)
        self._cut()
        self.ledger.close()
        self.answers.close()

    def _unfinished(self, now: float) -> bool:
        if now > self.plan.seconds + _GIVE_UP_S:
            return False
        telling = any(not one.is_told for one in self.tellings)
        return bool(telling or self.letters or self.backlog or self.in_http or self.hot_left)

    def _place(self, letter: Letter) -> None:
        bad = letter.event.intent is Intent.BAD
        if not bad and self.chance.random() < self.plan.http_share:
            self._to_http(letter)
        else:
            self.backlog.append(letter)

    def _to_http(self, letter: Letter) -> None:
        with self.answering:
            self.in_http += 1
        self.over_http.put(letter)

    def _tell(self, now: float) -> None:
        for telling in self.tellings:
            step = telling.due(now)
            if step is not None:
                letter = Letter(event=_event_of(self.plan.run, telling, step), telling=telling)
                if telling.story.over_http:
                    self._to_http(letter)
                else:
                    self.backlog.append(letter)

    def _heat(self) -> None:
        for _ in range(min(self.hot_left, max(0, 500 - len(self.backlog)))):
            self.hot_left -= 1
            self.backlog.append(Letter(event=_hot_event(self.plan.run, self.hot_left)))

    # RabbitMQ: one connection, read and written by turns.

    def _amqp(self) -> None:
        try:
            publisher = self._publisher()
            if publisher is None:
                return
            while self.backlog and len(self.letters) < 2000:
                self._publish(publisher, self.backlog.popleft())
            publisher.flush()
            while select.select([publisher._link.socket], [], [], 0)[0]:
                for frame in publisher._link.frames():
                    publisher._handle(*frame)
            late = bool(self.letters) and time.monotonic() - self.oldest_at > _CONFIRM_S
        except (OSError, PublisherError):
            late = True
        if late:
            self._cut()

    def _publisher(self) -> Publisher | None:
        if self.publisher is None and time.monotonic() >= self.connect_at:
            self.connect_at = time.monotonic() + 0.5
            self.publisher = Publisher(self.plan.amqp, self.plan.exchange, _ROUTING_KEY, self._heard)
            self.publisher._link.socket.settimeout(_SEND_S)
            self.oldest_at = time.monotonic()
        return self.publisher

    def _publish(self, publisher: Publisher, letter: Letter) -> None:
        sent_us = _now_us()
        letter.first_us = letter.first_us or sent_us
        data = body(letter.event, datetime.fromtimestamp(sent_us / 1e6, UTC))
        if not self.letters:
            self.oldest_at = time.monotonic()
        self.letters[letter.event.event_id] = letter
        publisher.publish(data, letter.event.event_id, Sent((letter.event.event_id,), sent_us, len(data)))

    def _heard(self, sent: Sent, ok: bool) -> None:
        self.oldest_at = time.monotonic()
        [event_id] = sent.event_ids
        letter = self.letters.pop(event_id, None)
        if letter is None:
            return  # a copy of an event that went with it
        self.ledger.told(event_id, letter.first_us, Outcome.CONFIRMED if ok else Outcome.REFUSED)
        if letter.telling is not None and ok:
            letter.telling.confirmed(time.monotonic() - self.began)
        elif letter.telling is not None:
            self.backlog.append(letter)

    def _cut(self) -> None:
        """The connection is gone: what was not confirmed is unknown, and some of it is sent again."""
        if self.publisher is not None:
            with contextlib.suppress(OSError):
                self.publisher.close()
        self.publisher = None
        left, self.letters = list(self.letters.values()), {}
        for letter in left:
            self.ledger.told(letter.event.event_id, letter.first_us, Outcome.UNKNOWN)
        again = [one for one in left if one.telling is not None or self.chance.random() < _AGAIN]
        self.backlog.extendleft(reversed(again))

    # HTTP: a few threads, each trying one event until it is told.

    def _http(self) -> None:
        parts = urlsplit(self.plan.http)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_HTTP_S)
        used = time.monotonic()
        while (letter := self.over_http.get()) is not None:
            if time.monotonic() - used > _UNUSED_S:
                connection.close()
            outcome = self._posted(connection, letter)
            self.ledger.told(letter.event.event_id, letter.first_us, outcome)
            if letter.telling is not None and outcome is Outcome.CONFIRMED:
                letter.telling.confirmed(time.monotonic() - self.began)
            used = time.monotonic()
            with self.answering:
                self.in_http -= 1
        connection.close()

    def _posted(self, connection: http.client.HTTPConnection, letter: Letter) -> Outcome:
        while True:
            status = self._post(connection, letter)
            with self.answering:
                self.answers.write(f"{_now_us()}\t{status}\n")
            if 200 <= status < 300:
                return Outcome.CONFIRMED
            if status not in {0, 429, 503}:
                return Outcome.REFUSED
            over = time.monotonic() - self.began > self.plan.seconds + _GIVE_UP_S - _HTTP_S
            if over or (letter.telling is None and self.chance.random() > _AGAIN):
                return Outcome.UNKNOWN
            time.sleep(0.3)

    def _post(self, connection: http.client.HTTPConnection, letter: Letter) -> int:
        """The status of one try; 0 when the connection failed."""
        sent_us = _now_us()
        letter.first_us = letter.first_us or sent_us
        headers = {"content-type": "application/json", "idempotency-key": letter.event.event_id}
        try:
            connection.request("POST", _PATH, body(letter.event, datetime.fromtimestamp(sent_us / 1e6, UTC)), headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return answer.status


def _event_of(run: str, telling: Telling, step: Step) -> Event:
    alert = WireAlert(
        source="stories",
        status="firing" if step.fires else "resolved",
        severity="error",
        summary=f"{telling.story.service} tells",
        labels={"alertname": ALERTNAME, "service": telling.story.service, "instance": step.instance},
    )
    event_id = f"{run}-{telling.story.service}-{telling.place}"
    return Event(event_id=event_id, intent=Intent.NEW if step.fires else Intent.RESOLVE, alert=alert)


def _hot_event(run: str, number: int) -> Event:
    labels = {"alertname": "Hot", "service": "hot", "instance": "hot-0", "run": run}
    alert = WireAlert(source="hot", status="firing", severity="critical", summary="The same again", labels=labels)
    return Event(event_id=f"{run}-hot-{number}", intent=Intent.REPEAT, alert=alert)


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> int:
    """Send what the plan in the file says; the file's path is the only argument."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=SenderPlan)
    sender = Sender(plan)
    sender.run()
    untold = [one.story.service for one in sender.tellings if one.is_broken or not one.is_told]
    sys.stdout.write(json.dumps({"untold": untold}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
