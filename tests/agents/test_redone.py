"""A step that is done again, in whichever cuts, tells groups what they have not heard, and nothing twice."""

import copy
from collections import Counter
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from agents import envelopes
from agents.alert_partition import AlertsPartition
from agents.incidents_work import IncidentsWork
from streams import codec
from streams.records import AlertBatch, InputBatch, MemberChange
from streams.rules_config import load
from tests.agents.stage import Dedup, Incidents, alert, at, batch, cut, rebuilt, tick

SEVERAL = {
    1: load(
        """
route:
  receiver: ops
  group_wait: 1s
  group_interval: 2s
  routes:
    - {receiver: ops, group_by: [service], continue: true}
    - {receiver: ops, group_by: [alertname]}
receivers: [{name: ops}]
""",
        version=1,
    )
}
PARTITIONS = 2


@st.composite
def records(draw: st.DrawFn) -> list[AlertBatch]:
    words = st.tuples(st.sampled_from("ab"), st.sampled_from(["api", "db"]), st.sampled_from(["", "k"]), st.booleans())
    return [
        batch(
            *(
                alert(name, service=service, key=key, firing=firing, event_at=at(second))
                for name, service, key, firing in draw(st.lists(words, min_size=1, max_size=6))
            ),
            seconds=second,
        )
        for second in range(1, 1 + draw(st.integers(2, 5)))
    ]


def hear(groups: list[Incidents], sent: list[Any]) -> None:
    for one in sent:
        if isinstance(record := codec.decode_inputs(one.value), InputBatch):
            groups[one.partition].step(record)


@settings(max_examples=60, deadline=None)
@given(records(), st.integers(1, 3), st.integers(0, 12), st.sets(st.integers(1, 4)), st.booleans())
def test_what_a_step_tells_is_taken_once(
    story: list[AlertBatch], last: int, heard: int, cuts: set[int], leaves: bool
) -> None:
    taken: Counter[tuple[object, ...]] = Counter()

    def seen(change: MemberChange) -> tuple[object, ...]:
        return change.group, change.identity, change.revision, change.change

    def noted(work: IncidentsWork, change: MemberChange, log_id: str) -> None:
        taken[seen(change)] += 1
        original(work, change, log_id)

    original = IncidentsWork._change
    with mock.patch.object(envelopes, "AT_ONCE", 2), mock.patch.object(IncidentsWork, "_change", noted):
        first = Dedup(configs=SEVERAL, partitions=PARTITIONS)
        groups = [Incidents(number=number, configs=SEVERAL, partitions=PARTITIONS) for number in range(PARTITIONS)]
        before = story[:-last]
        hear(groups, first.step(*before) if before else [])
        found = copy.deepcopy(first.view)
        told = first.step(*story[-last:])
        # The owner dies: of what it sent, only the first came to the log.
        hear(groups, [one for number, one in enumerate(told) if number < heard])
        if leaves:
            for group in groups:
                group.step(tick(20))
        owner = Dedup(configs=SEVERAL, partitions=PARTITIONS)
        owner.partition = AlertsPartition.over(
            found, pg_applied=first.view.offset, config_version=1, watermark=found.mark.watermark
        )
        for some in cut(story[-last:], cuts):
            hear(groups, owner.step(*some, replaying=True))
    expected = {
        seen(change)
        for one in first.sent
        if isinstance(record := codec.decode_inputs(one.value), InputBatch)
        for change in record.items
    }
    assert set(taken) == expected
    assert max(taken.values(), default=1) == 1


def stories_after_a_rebuild(dedup: Dedup, story: list[AlertBatch], heard: list[Any]) -> Counter[tuple[str, ...]]:
    """How often groups say what of an alert, when they heard some of it before Redis was lost and the rest after."""
    owner = rebuilt(dedup, before=-1, configs=SEVERAL, partitions=1)
    groups = Incidents(configs=SEVERAL, partitions=1)
    hear([groups], heard)
    hear([groups], owner.step(*story, replaying=True))
    keys = {row.id: row.group_key for row in groups.rows.incidents.values()}
    return Counter((keys[line.incident_id], line.event) for line in groups.rows.lines if line.event.startswith("alert"))


def test_of_several_groups_of_one_partition_each_hears_what_began_and_ended() -> None:
    dedup, story = Dedup(configs=SEVERAL, partitions=1), [batch(alert("a"), alert("a", firing=False, event_at=at(2)))]
    with mock.patch.object(envelopes, "AT_ONCE", 1):
        told = dedup.step(*story)
        for heard in range(len(told) + 1):
            said = stories_after_a_rebuild(dedup, story, told[:heard])
            assert (len(said), set(said.values())) == (4, {1})


def test_a_group_that_an_alert_came_into_after_its_beginning_hears_that_it_was_there() -> None:
    story = [
        batch(alert("a", key="k"), alert("b")),
        batch(alert("a", key="k", service="db", event_at=at(2)), seconds=2),
        batch(alert("a", key="k", service="db", firing=False, event_at=at(3)), seconds=3),
    ]
    dedup = Dedup(configs=SEVERAL, partitions=1)
    heard = dedup.step(story[0])
    rest = dedup.step(story[1]), dedup.step(story[2])
    whole = stories_after_a_rebuild(dedup, story, [*heard, *rest[0], *rest[1]])
    said = stories_after_a_rebuild(dedup, story, heard)
    fired = [{group for group, event in one if event == "alert fired"} for one in (said, whole)]
    assert fired[0] == fired[1]
    assert len(fired[0]) == 4


def test_a_timeout_that_is_told_again_brings_back_nobody_who_has_left() -> None:
    dedup, groups = Dedup(configs=SEVERAL, partitions=1), Incidents(configs=SEVERAL, partitions=1)
    hear([groups], dedup.step(batch(alert("a", ends_at=at(5)), alert("b"))))
    found = copy.deepcopy(dedup.view)
    hear([groups], dedup.step(tick(6)))
    groups.step(tick(20))
    left = groups.members
    owner = Dedup(configs=SEVERAL, partitions=1)
    owner.partition = AlertsPartition.over(
        found, pg_applied=dedup.view.offset, config_version=1, watermark=found.mark.watermark
    )
    hear([groups], owner.step(tick(6), replaying=True))
    assert groups.members == left
