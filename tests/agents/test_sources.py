"""Dedup tells every partition of incident-inputs what fires and can mute, and when it has ended."""

from collections.abc import Iterable
from typing import Any

import pytest

from agents.alert_partition import AlertsPartition
from agents.suppression import Suppression
from agents.work import Outgoing
from streams import codec
from streams.records import ConfigChanged, Inhibitor, InhibitorChanged, InputBatch
from streams.rules_config import load
from tests.agents.stage import MOVED, RULES, Dedup, Incidents, alert, at, batch, tick

MUTING = """
inhibit_rules:
  - source_matchers: [alertname="{source}"]
    target_matchers: [alertname="b"]
    equal: [service]
"""
WITH = load(RULES.text + MUTING.format(source="a"), version=1)
OTHER = load(RULES.text + MUTING.format(source="c"), version=2)
TARGET = {"alertname": "b", "service": "api"}


def dedup(*configs: Any) -> Dedup:
    made = Dedup()
    made.logic.configs = {config.version: config for config in (configs or (WITH, MOVED))}
    made.partition = AlertsPartition.over(made.view, pg_applied=-1, config_version=1, watermark=at(0))
    return made


def sources(sent: Iterable[Outgoing]) -> dict[int, list[Inhibitor]]:
    found: dict[int, list[Inhibitor]] = {}
    for record in sent:
        inner = codec.decode_inputs(record.value) if "inputs" in record.topic else None
        if isinstance(inner, InhibitorChanged):
            found.setdefault(record.partition, []).extend(inner.items)
    return found


def muted(groups: Incidents, sent: Iterable[Outgoing], config: Any = WITH) -> Suppression:
    records = [codec.decode_inputs(record.value) for record in sent if record.topic.endswith("inputs")]
    groups.step(*(record for record in records if isinstance(record, InhibitorChanged)))
    return groups.work([]).suppressor.of(TARGET, at(0), rules=config.inhibit_rules)


def test_every_partition_hears_before_the_groups_do() -> None:
    sent = dedup().step(batch(alert("a"), alert("b")))
    inner = [(record.partition, codec.decode_inputs(record.value)) for record in sent]
    first = [number for number, record in inner if isinstance(record, InhibitorChanged)]
    assert first == [0, 1, 2]
    assert [type(record) for _, record in inner] == [InhibitorChanged] * 3 + [InputBatch] * (len(inner) - 3)


def test_it_mutes_from_its_firing_to_its_end_and_not_a_moment_longer() -> None:
    stage, groups = dedup(), Incidents(configs={1: WITH})
    assert muted(groups, stage.step(batch(alert("a")))).inhibited_by
    assert muted(groups, stage.step(batch(alert("a"), seconds=1))).inhibited_by
    assert not muted(groups, stage.step(batch(alert("a", firing=False, event_at=at(2), ends_at=at(2)), seconds=2)))
    assert muted(groups, stage.step(batch(alert("a", event_at=at(3), starts_at=at(3)), seconds=3)))


def test_a_source_that_times_out_mutes_no_longer() -> None:
    stage, groups = dedup(), Incidents(configs={1: WITH})
    assert muted(groups, stage.step(batch(alert("a", ends_at=at(60)))))
    assert not muted(groups, stage.step(tick(61)))


def test_only_its_own_service_is_muted_and_duplicates_say_nothing() -> None:
    stage, groups = dedup(), Incidents(configs={1: WITH})
    assert not muted(groups, stage.step(batch(alert("a", service="db"))))
    assert sources(stage.step(batch(alert("a", service="db"), seconds=1))) == {}
    assert sources(stage.step(batch(alert("c"), alert("b"), seconds=2))) == {}


def test_the_same_step_again_says_the_same_and_changes_nothing() -> None:
    stage, groups = dedup(), Incidents(configs={1: WITH})
    sent = stage.step(batch(alert("a")))
    before = muted(groups, sent)
    rules = dict(groups.view.tables["rules"])
    assert muted(groups, sent) == before
    assert groups.view.tables["rules"] == rules


@pytest.mark.parametrize(("after", "name"), [(OTHER, "c"), (MOVED, "")], ids=["another rule", "no rule"])
def test_new_rules_are_announced_for_what_fires_already(after: Any, name: str) -> None:
    stage, groups = dedup(WITH, after), Incidents(configs={1: WITH, 2: after})
    assert muted(groups, stage.step(batch(alert("a"), alert("c"))))
    sent = stage.step(ConfigChanged(version=2, announced_at=at(5)))
    told = {item.fingerprint: bool(item.entries) for items in sources(sent).values() for item in items}
    assert sorted(told.values()) == ([False, True] if name else [False])
    assert bool(muted(groups, sent, after)) is bool(name)
    assert not groups.work([]).suppressor.of(TARGET, at(5), rules=WITH.inhibit_rules)


def test_an_alert_whose_labels_no_longer_match_mutes_nobody() -> None:
    stage, groups = dedup(), Incidents(configs={1: WITH})
    assert muted(groups, stage.step(batch(alert("a", key="mine"))))
    moved = alert("d", key="mine", event_at=at(1), summary="another name")
    assert not muted(groups, stage.step(batch(moved, seconds=1)))
