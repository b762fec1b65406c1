"""The load generator, run by Locust: `locust -f loadtests/locustfile.py --headless`.

Open model: one user for each way sends at the planned rate. The plan comes in
LOAD_PLAN; without it, a standard run against the system of `INCIDENTS_DATA_DIR`.
"""

import os
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.env import Environment

from loadtests.broker_user import BrokerSender, RabbitUser
from loadtests.http_user import HttpSender, HttpUser
from loadtests.pace import WayAccount, report_each_second
from loadtests.plan import Via, plan_from_environ

PLAN = plan_from_environ()
WAYS = {Via.AMQP, Via.HTTP} if PLAN.via is Via.BOTH else {PLAN.via}
RabbitUser.abstract = Via.AMQP not in WAYS
HttpUser.abstract = Via.HTTP not in WAYS
NICENESS = 5
"""Senders live elsewhere; on a shared machine they yield to what is measured, and their lateness is reported."""
ACCOUNTS: list[WayAccount] = []
REPORTING: list[gevent.Greenlet] = []

__all__ = ["HttpUser", "RabbitUser", "UntilSent"]


class UntilSent(LoadTestShape):
    """One user for each way until the plan is sent and answered."""

    def tick(self) -> tuple[int, float] | None:
        if REPORTING and REPORTING[0].dead:  # the last line is written, so nothing ends before it
            return None
        return len(WAYS), 10


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust passes what it likes
    """Make the senders before the clock starts."""
    os.nice(NICENESS)
    if Via.AMQP in WAYS:
        RabbitUser.sender = BrokerSender(PLAN, environment)
        ACCOUNTS.append(RabbitUser.sender.account)
    if Via.HTTP in WAYS:
        HttpUser.sender = HttpSender(PLAN, environment)
        ACCOUNTS.append(HttpUser.sender.account)
    REPORTING.append(gevent.spawn(report_each_second, ACCOUNTS))
