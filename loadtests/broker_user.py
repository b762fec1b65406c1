"""A Locust user that publishes alerts to RabbitMQ and reports each confirm to Locust."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import gevent
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests.amqp_publisher import Publisher, Sent
from loadtests.ledger_file import Outcome
from loadtests.mixes import Mix, body, list_body
from loadtests.pace import WayAccount, pace
from loadtests.plan import LoadPlan, Via

ROUTING_KEY: Final = "llm.alert"
_SETTLE_S: Final = 20.0
_RETRY_S: Final = 0.5


class BrokerSender:
    """Publishes one mix on one connection, connecting again whenever it is cut."""

    def __init__(self, plan: LoadPlan, environment: Environment) -> None:
        self.account = WayAccount(plan, Via.AMQP)
        plan = self.account.plan
        if plan.amqp is None:
            raise SystemExit("this system has no RabbitMQ: use VIA=http")
        self._amqp = plan.amqp
        self._batch = plan.batch
        self._mix = Mix(plan.run, plan.seed)
        self._fire: Callable[..., None] = environment.events.request.fire
        self._publisher: Publisher | None = None
        self._over = False

    def run(self) -> None:
        """Send everything that is due, wait for the confirms, and write down what stayed open."""
        listener = gevent.spawn(self._stay_connected)
        while self._publisher is None and not listener.dead:
            gevent.sleep(0.01)
        pace(self.account, self._send, self._flush)
        deadline = time.monotonic() + _SETTLE_S
        while self._publisher is not None and self._publisher.waiting and time.monotonic() < deadline:
            gevent.sleep(0.02)
        self._over = True
        self._drop()
        listener.kill()
        self.account.ledger.close()
        self.account.finished = True

    def _send(self) -> None:
        events = [self._mix.next() for _ in range(self._batch)]
        now = time.time_ns() // 1000
        sent_at = datetime.fromtimestamp(now / 1e6, UTC)
        text = body(events[0], sent_at) if self._batch == 1 else list_body(events, sent_at)
        sent = Sent(tuple(event.event_id for event in events), now, len(text))
        self.account.sent += len(events)
        if self._publisher is None:
            self._tell(sent, Outcome.REFUSED, "not connected")
        else:
            self._publisher.publish(text, events[0].event_id, sent)

    def _flush(self) -> None:
        if self._publisher is not None:
            try:
                self._publisher.flush()
            except OSError:
                self._drop()

    def _stay_connected(self) -> None:
        while not self._over:
            try:
                publisher = Publisher(self._amqp.url, self._amqp.exchange, ROUTING_KEY, self._told)
                self._publisher = publisher
                publisher.listen()
            except OSError as error:
                if not self._over:
                    self._fire(
                        request_type="AMQP", name="connection", response_time=0, response_length=0, exception=error
                    )
            self._drop()
            gevent.sleep(_RETRY_S)

    def _drop(self) -> None:
        publisher, self._publisher = self._publisher, None
        for sent in publisher.close() if publisher is not None else ():
            self._tell(sent, Outcome.UNKNOWN, "connection lost before the confirm")

    def _told(self, sent: Sent, ok: bool) -> None:  # noqa: FBT001 - the publisher's callback
        self._tell(sent, Outcome.CONFIRMED if ok else Outcome.REFUSED, "" if ok else "refused or unroutable")

    def _tell(self, sent: Sent, outcome: Outcome, error: str) -> None:
        now = time.time_ns() // 1000
        for event_id in sent.event_ids:
            self.account.ledger.told(event_id, sent.sent_us, now, outcome)
        self._fire(
            request_type="AMQP",
            name="publish",
            response_time=(now - sent.sent_us) / 1000,
            response_length=sent.size,
            exception=ConnectionError(error) if error else None,
            context={},
        )


class RabbitUser(User):
    """One publisher for the whole rate: arrivals follow the clock, not the answers."""

    fixed_count = 1
    sender: BrokerSender

    @task
    def publish_all(self) -> None:
        """Publish the whole plan, then stop."""
        self.sender.run()
        raise StopUser
