"""A change that comes again after its alert has left its group is not new, with Redis or after a rebuild."""

import msgspec

from agents.group_partition import CAUSES, RULES, InputsPartition
from streams import codec
from streams.records import AlertBatch, Change, InputBatch
from streams.redis_tables import View
from streams.rules_config import load
from tests.agents.stage import Dedup, Incidents, alert, at, batch, rebuilt, tick

QUIET = {
    1: load(
        "route: {receiver: ops, group_by: [alertname], group_wait: 1s, group_interval: 2s}\nreceivers: [{name: ops}]",
        version=1,
    )
}  # nobody is told, so a resolved alert leaves at the next flush


def heard(dedup: Dedup, *records: AlertBatch, replaying: bool = False) -> list[InputBatch]:
    sent = dedup.step(*records, replaying=replaying)
    found = [codec.decode_inputs(one.value) for one in sent if one.topic.endswith("incident-inputs")]
    return [one for one in found if isinstance(one, InputBatch)]


def story() -> tuple[Incidents, list[InputBatch]]:
    """An alert that fired, ended and left; and all that its group heard."""
    dedup, groups = Dedup(configs=QUIET, partitions=1), Incidents(configs=QUIET, partitions=1)
    fired = heard(dedup, batch(alert("a")))
    ended = heard(dedup, batch(alert("a", firing=False, event_at=at(3)), seconds=3))
    groups.step(*fired, *ended)
    groups.step(tick(20))
    assert groups.members == {}
    return groups, [*fired, *ended]


def test_what_came_before_something_newer_is_not_new_though_its_alert_has_left() -> None:
    groups, told = story()
    before = dict(groups.groups)
    groups.step(told[0])
    assert groups.members == {}
    assert groups.groups == before


def in_one_record() -> tuple[Dedup, Incidents, list[InputBatch], AlertBatch]:
    """An alert that fired and ended in one record beside one that fires on, and left; and all that was heard."""
    dedup, groups = Dedup(configs=QUIET, partitions=1), Incidents(configs=QUIET, partitions=1)
    heard(dedup, batch(alert("c")))
    record = batch(alert("b"), alert("a"), alert("a", firing=False, event_at=at(3)), seconds=3)
    told = heard(dedup, record)
    groups.step(*told)
    groups.step(tick(20))
    assert len(groups.members) == 1
    return dedup, groups, told, record


def test_of_one_cause_nothing_is_taken_twice_though_its_alert_has_left() -> None:
    _, groups, told, _ = in_one_record()
    before = dict(groups.groups)
    groups.step(*told)
    assert groups.groups == before
    assert groups.work(told).advance(99).causes is None


def test_of_one_cause_the_rest_is_taken_where_the_first_part_came_before() -> None:
    _, _, told, _ = in_one_record()
    [whole] = told
    groups = Incidents(configs=QUIET, partitions=1)
    groups.step(msgspec.structs.replace(whole, items=whole.items[:1]))
    groups.step(*told)
    assert [line[2] for line in groups.rows.timeline].count("alert fired") == 2
    assert {member.firing for member in groups.members.values()} == {True, False}


def test_what_was_heard_of_is_not_begun_again_by_a_rebuild_though_its_alert_has_left() -> None:
    dedup, groups, _, record = in_one_record()
    owner = rebuilt(dedup, before=0, partitions=1, configs=QUIET)
    again = [change for one in heard(owner, record, replaying=True) for change in one.items]
    assert [(change.change, change.begins) for change in again][1:] == [(Change.FIRED, True), (Change.RESOLVED, False)]
    before = dict(groups.groups)
    groups.step(*(codec.decode_inputs(one.value) for one in owner.sent_last))
    assert groups.groups == before
    anew = Incidents(configs=QUIET, partitions=1)
    anew.step(*(codec.decode_inputs(one.value) for one in owner.sent_last))
    assert {member.firing for member in anew.members.values()} == {True, False}


def test_how_far_was_heard_is_in_the_table_and_in_the_progress_row() -> None:
    groups, told = story()
    kept = groups.view.tables[RULES][CAUSES]
    assert groups.work([told[0]]).advance(99).causes is None
    assert Incidents(configs=QUIET, partitions=1).work(told).advance(99).causes == kept
    again = View(0, groups.view.mark, {**groups.view.tables, RULES: {CAUSES: kept}})
    partition = InputsPartition.over(again, pg_applied=0, config_version=1, watermark=at(20))
    assert partition.causes.newest == {0: told[-1].items[0].cause}


def test_another_life_of_the_log_begins_anew() -> None:
    groups, told = story()
    first = told[0]
    other = InputBatch(log_id="another", accepted_at=first.accepted_at, items=first.items)
    groups.step(other)
    assert len(groups.members) == 1


def test_several_changes_of_one_cause_are_all_taken() -> None:
    dedup, groups = Dedup(configs=QUIET, partitions=1), Incidents(configs=QUIET, partitions=1)
    groups.step(*heard(dedup, batch(alert("a"), alert("b"), alert("c"))))
    assert len(groups.members) == 3
