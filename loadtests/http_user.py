"""A Locust user that posts alerts over HTTP and reports each answer to Locust."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import gevent
import msgspec
from gevent.queue import Queue
from geventhttpclient import HTTPClient
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests.ledger_file import Outcome
from loadtests.mixes import Event, Mix, list_body
from loadtests.pace import WayAccount, pace
from loadtests.plan import LoadPlan, Via

PATH: Final = "/api/v1/alerts"
_CONNECTIONS: Final = 32
_TIMEOUT_S: Final = 10.0
_SETTLE_S: Final = 20.0
_HEADERS: Final = {"Content-Type": "application/json"}


class _Refused(msgspec.Struct, frozen=True):
    """One item that was not taken."""

    index: int


class _Answer(msgspec.Struct, frozen=True):
    """What the gateway says to a request of which it took something."""

    event_ids: list[str]
    rejected: list[_Refused]

    def taken(self) -> set[str]:
        """The ids of what it took."""
        refused = {item.index for item in self.rejected}
        return {event_id for index, event_id in enumerate(self.event_ids) if index not in refused}


class HttpSender:
    """Posts one mix over a few kept connections; requests wait in line when all are busy."""

    def __init__(self, plan: LoadPlan, environment: Environment) -> None:
        self.account = WayAccount(plan, Via.HTTP)
        plan = self.account.plan
        if plan.http is None:
            raise SystemExit("this system has no gateway: use VIA=amqp")
        self._batch = plan.batch
        self._mix = Mix(plan.run, plan.seed + 1)
        self._fire: Callable[..., None] = environment.events.request.fire
        self._client = HTTPClient.from_url(plan.http, concurrency=_CONNECTIONS, network_timeout=_TIMEOUT_S)
        self._queue: Queue[tuple[list[Event], int]] = Queue()
        self._open = 0

    def run(self) -> None:
        """Post everything that is due, wait for the answers, and write down what stayed open."""
        workers = [gevent.spawn(self._post_from_queue) for _ in range(_CONNECTIONS)]
        pace(self.account, self._send, lambda: None)
        deadline = time.monotonic() + _SETTLE_S
        while self._open and time.monotonic() < deadline:
            gevent.sleep(0.02)
        gevent.killall(workers)
        self._client.close()
        self.account.ledger.close()
        self.account.finished = True

    def _send(self) -> None:
        events = [self._mix.next() for _ in range(self._batch)]
        self.account.sent += len(events)
        self._open += 1
        self._queue.put((events, time.time_ns() // 1000))

    def _post_from_queue(self) -> None:
        for events, due_us in self._queue:
            try:
                self._post(events, due_us)
            finally:
                self._open -= 1

    def _post(self, events: list[Event], due_us: int) -> None:
        # The send time is when it was due: a wait for a free connection is the system's.
        text = list_body(events, datetime.fromtimestamp(due_us / 1e6, UTC))
        ids = {event.event_id for event in events}
        taken: set[str] = set()
        error: Exception | None = None
        answered = False
        try:
            response = self._client.post(PATH, body=text, headers=_HEADERS)
            said = response.read()
            answered = True
            if response.status_code < 300:  # noqa: PLR2004 - 2xx
                taken = msgspec.json.decode(said, type=_Answer).taken() & ids
            else:
                error = ConnectionError(f"{response.status_code}: {bytes(said[:200])!r}")
        except (OSError, msgspec.MsgspecError) as caught:
            error = caught
        finally:
            self._tell(ids, taken, due_us, answered=answered)
        now = time.time_ns() // 1000
        self._fire(
            request_type="POST",
            name=PATH,
            response_time=(now - due_us) / 1000,
            response_length=len(text),
            exception=error,
            context={},
        )

    def _tell(self, ids: set[str], taken: set[str], due_us: int, *, answered: bool) -> None:
        now = time.time_ns() // 1000
        unless_taken = Outcome.REFUSED if answered else Outcome.UNKNOWN
        for event_id in ids:
            outcome = Outcome.CONFIRMED if event_id in taken else unless_taken
            self.account.ledger.told(event_id, due_us, now, outcome)


class HttpUser(User):
    """One poster for the whole rate: arrivals follow the clock, not the answers."""

    fixed_count = 1
    sender: HttpSender

    @task
    def post_all(self) -> None:
        """Post the whole plan, then stop."""
        self.sender.run()
        raise StopUser
