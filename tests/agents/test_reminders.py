"""Somebody is reminded, once, that a silence is about to end."""

from typing import Any

import msgspec

from agents.group_partition import InputsPartition
from streams import codec
from streams.records import InputBatch, Silence, SilenceChanged
from tests.agents.stage import Dedup, Incidents, alert, at, batch, tick

SILENCE = Silence(
    id="0f7d2a30-0000-4000-8000-000000000001", sequence=1, sets=((("service", "=", "api"),),),
    windows=((at(0), at(1000)),), comment="deploying", remind_at=at(900),
)  # fmt: skip


def told(silence: Silence, after: int = 0, seconds: float = 1) -> SilenceChanged:
    return SilenceChanged(after=after, upto=silence.sequence, items=(silence,), announced_at=at(seconds))


def muted(silence: Silence = SILENCE, **alerts: Any) -> Incidents:
    """One partition whose group for `api` was flushed while the silence was on."""
    sent = Dedup(partitions=1).step(batch(alert("x", **alerts), alert("x", service="db")))
    records = [codec.decode_inputs(one.value) for one in sent if one.topic.endswith("inputs")]
    stage = Incidents(partitions=1)
    stage.step(told(silence), *(one for one in records if isinstance(one, InputBatch)), tick(20))
    return stage


def test_the_receiver_of_the_muted_group_is_told_once() -> None:
    stage = muted()
    before = stage.step(tick(899))
    assert not before.tasks
    work = stage.step(tick(901))
    [task] = work.tasks
    assert (task.receiver, task.reason) == ("ops", "a silence of it ends soon")
    assert [row.event for row in work.story.timeline if row.event == "silence ends soon"]
    [why] = [row for row in work.story.decisions if row.decision == "waiting until"]
    assert SILENCE.id in why.reason
    assert not [one for one in stage.step(tick(950)).tasks if "silence" in one.reason]
    again = InputsPartition.over(stage.view, pg_applied=-1, config_version=1, watermark=at(960))
    assert "remind" not in {what for _, what, _ in again.deadlines.entries()}


def test_a_named_receiver_is_told_instead() -> None:
    stage = muted(msgspec.structs.replace(SILENCE, remind_to="both"))
    assert {task.receiver for task in stage.step(tick(901)).tasks} == {"both"}


def test_the_announcement_come_again_does_not_remind_again() -> None:
    stage = muted()
    assert stage.step(tick(901)).tasks
    work = stage.step(told(SILENCE, seconds=910), tick(911))
    assert not [one for one in work.tasks if "silence" in one.reason]


def test_an_edit_moves_it_and_an_early_end_calls_it_off() -> None:
    stage = muted()
    longer = msgspec.structs.replace(SILENCE, sequence=2, windows=((at(0), at(5000)),), remind_at=at(4900))
    assert not [one for one in stage.step(told(longer, 1, 30), tick(901)).tasks if "silence" in one.reason]
    ended = msgspec.structs.replace(longer, sequence=3, windows=((at(0), at(1000)),), remind_at=None)
    work = stage.step(told(ended, 2, 1001), tick(4901))
    assert not [one for one in work.tasks if "silence" in one.reason]


def test_nobody_is_told_of_an_incident_that_is_over() -> None:
    sent = Dedup(partitions=1)
    first = sent.step(batch(alert("x")))
    ended = sent.step(batch(alert("x", firing=False, event_at=at(30), ends_at=at(30)), seconds=30))
    stage = Incidents(partitions=1)
    records = [codec.decode_inputs(one.value) for one in (*first, *ended) if one.topic.endswith("inputs")]
    stage.step(told(SILENCE), *(one for one in records if isinstance(one, InputBatch)), tick(50))
    assert not stage.step(tick(901)).tasks
