"""The traces that a batch of AMQP messages is in: which are recorded, and the bridge's spans of them."""

from typing import NamedTuple

from streams import trace_context
from streams.amqp_bursts import Delivery
from streams.bridge_batch import Gathered, trace_of
from streams.topics import ALERTS
from streams.tracing import tracer


class Stage(NamedTuple):
    """When what was done, of `time.perf_counter`."""

    began: float
    judged: float
    published: float
    ended: float


class Following:
    """Follows one batch. `contexts` are those of the messages, by their place, that are traced."""

    def __init__(self, messages: list[Delivery]) -> None:
        self._tracer = tracer()
        self._messages = messages
        self._parents: dict[int, str] = {}
        self.contexts: dict[int, str] = {}
        if self._tracer is not None:
            self._begin(self._tracer.chosen([trace_of(one) if one.headers else "" for one in messages]))

    def _begin(self, parents: dict[int, str]) -> None:
        self._parents = parents
        self.contexts = {
            place: trace_context.child(parent, "bridge", place) or trace_context.new()
            for place, parent in parents.items()
        }

    def record(self, queue: str, found: Gathered, stage: Stage) -> None:
        """Write the spans down; one too where nothing was traced and something was refused or slow."""
        if self._tracer is None:
            return
        if not self.contexts:
            slow = stage.ended - stage.began > self._tracer.slow
            if not (slow or found.dead) or not self._tracer.may():
                return
            self._begin({0: next((batch.trace for batch in found.batches), "")})
        refused = {letter.message_id: letter.rejected.reason for letter in found.dead}
        links = tuple(self.contexts.values())
        for place, context in self.contexts.items():
            message = self._messages[place]
            self._tracer.record(
                context, self._parents[place], f"process {queue}", stage.began, ended=stage.ended, kind="consumer",
                attributes={
                    "messaging.system": "rabbitmq",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": queue,
                    "messaging.message.id": message.message_id,
                    "messaging.batch.message_count": len(self._messages),
                },
                links=links,
                error=refused.get(message.message_id or None, ""),
            )  # fmt: skip
            self._tracer.record(
                trace_context.child(context, ALERTS), context, f"send {ALERTS}", stage.judged, ended=stage.published,
                kind="producer", attributes={"messaging.system": "kafka", "messaging.destination.name": ALERTS},
            )  # fmt: skip
