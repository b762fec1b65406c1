"""The clock of the generator: sends what is due when it is due, and accounts for it."""

import gc
import json
import sys
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import gevent

from loadtests.ledger_file import LedgerWriter
from loadtests.plan import STATUS_MARK, LoadPlan, Via
from loadtests.shapes import due_times

_NO_FILE: Final = "/dev/null"
# What falls due within one tick leaves in one system call, which halves the generator's cost at 1,000/s.
_TICK_S: Final = 0.005


class WayAccount:
    """What one way of the generator has sent and heard."""

    def __init__(self, plan: LoadPlan, way: Via) -> None:
        self.plan = plan.half(way)
        self.way = way
        self.ledger = LedgerWriter(Path(plan.ledger) / f"{way}.tsv" if plan.ledger else Path(_NO_FILE))
        self.sent = 0
        self.late_us = array("q")
        self.cpu_s = 0.0
        self.finished = False
        self._worst_us = 0
        self._ways = 2 if plan.via is Via.BOTH else 1  # they share the process whose time is taken

    def late(self, seconds: float) -> None:
        """Note by how much one message left after it was due."""
        late = round(seconds * 1e6)
        self.late_us.append(late)
        self._worst_us = max(self._worst_us, late)

    def status(self) -> dict[str, object]:
        """The figures until now; quantiles only when all is over, since they cost time."""
        worst, self._worst_us = self._worst_us, 0
        figures: dict[str, object] = {"way": self.way, "sent": self.sent, "late_worst_ms": worst / 1000}
        figures.update({outcome.value: count for outcome, count in self.ledger.counts.items()})
        if self.finished:
            figures.update(
                late_ms=quantiles(self.late_us),
                confirm_ms=quantiles(self.ledger.confirm_us),
                cpu_us_per_message=self.cpu_s / self._ways / max(1, len(self.late_us)) * 1e6,
            )
        return figures


def quantiles(microseconds: Iterable[int]) -> dict[str, float]:
    """p50, p95, p99, p99.9 and the worst, in milliseconds."""
    ordered = sorted(microseconds) or [0]
    last = len(ordered) - 1
    parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: ordered[round(part * last)] / 1000 for name, part in parts.items()}


def pace(account: WayAccount, send: Callable[[], None], flush: Callable[[], None]) -> None:
    """Call `send` for each message when it is due, and `flush` before each wait."""
    gc.collect()
    gc.freeze()
    clock = time.monotonic
    began, cpu = clock(), time.process_time()
    for due in due_times(account.plan):
        wait = due - (clock() - began)
        if wait > 0:
            flush()
            while (wait := due - (clock() - began)) > 0:
                gevent.sleep(max(wait, _TICK_S))
        account.late(clock() - began - due)
        send()
    flush()
    account.cpu_s = time.process_time() - cpu


def report_each_second(accounts: list[WayAccount]) -> None:
    """Write a status line to standard output each second, and a last one when all are finished."""
    while True:
        finished = bool(accounts) and all(account.finished for account in accounts)
        line = json.dumps({"finished": finished, "ways": [account.status() for account in accounts]})
        sys.stdout.write(f"{STATUS_MARK}{line}\n")
        sys.stdout.flush()
        if finished:
            return
        gevent.sleep(1)
