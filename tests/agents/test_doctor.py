"""What the doctor makes of what it sees, part by part; a whole system is visited in tests/flow."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.backup import Standing, advice, environ_of
from agents.doctor.brokers import TopicFacts, judge_log, judge_topics
from agents.doctor.canary import Canary
from agents.doctor.findings import Finding, Level, looked
from agents.doctor.paths import Answer, judge_roles, look_at_receivers
from agents.doctor.stores import PostgresFacts, judge_postgres, judge_redis, judge_skew
from agents.doctor.visit import judge_settings, where
from agents.here import found_here
from streams.rules_config import load
from streams.settings import Settings
from streams.topic_admin import wanted_topics

WELL = PostgresFacts(
    version=180000, name="18.0", read_only=False, role="incidents", superuser=False, may_change=False, skew_s=0.01,
    settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_connections": "100",
              "server_encoding": "UTF8"},
)  # fmt: skip
INFO = {"redis_version": "7.2.4", "aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction", "role": "master"}


def levels(found: list[Finding]) -> dict[str, Level]:
    return {one.said: one.level for one in found if one.level is not Level.PASS}


@pytest.mark.parametrize(
    ("changes", "said", "level"),
    [
        ({"version": 130000, "name": "13.9"}, "version 13.9", Level.FAIL),
        ({"read_only": True}, "read only", Level.FAIL),
        ({"settings": {**WELL.settings, "fsync": "off"}}, "commits may be lost", Level.FAIL),
        ({"settings": {**WELL.settings, "synchronous_commit": "off"}}, "commits may be lost", Level.FAIL),
        ({"settings": {**WELL.settings, "server_encoding": "LATIN1"}}, "encoding LATIN1", Level.FAIL),
        ({"settings": {**WELL.settings, "max_connections": "20"}}, "at most 20 connections", Level.WARN),
        ({"skew_s": -2.0}, "its clock is 2.00 s behind", Level.WARN),
        ({"skew_s": 8.0}, "its clock is 8.00 s ahead", Level.FAIL),
        ({"missing": ("0009_x.sql",)}, "the schema lacks 0009_x.sql", Level.FAIL),
        ({"changed": "0001 reads otherwise"}, "0001 reads otherwise", Level.FAIL),
        ({"absent_days": ("verdicts_20310101",)}, "no partitions for verdicts_20310101", Level.WARN),
        ({"superuser": True}, "incidents is a superuser", Level.WARN),
        ({"may_change": True}, "incidents may change the schema", Level.WARN),
        ({"rewritable": ("timeline",)}, "incidents may rewrite timeline", Level.WARN),
    ],
)
def test_postgres(changes: dict[str, Any], said: str, level: Level) -> None:
    assert levels(judge_postgres(WELL, Settings())) == {}
    found = judge_postgres(msgspec.structs.replace(WELL, **changes), Settings())
    assert levels(found) == {said: level}
    assert all(one.remedy for one in found if one.level is not Level.PASS)


@pytest.mark.parametrize(
    ("changes", "said", "level"),
    [
        ({"redis_version": "6.0.9"}, "version 6.0.9", Level.FAIL),
        ({"maxmemory_policy": "allkeys-lru"}, "policy allkeys-lru", Level.WARN),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 10**9}, "policy allkeys-lru", Level.FAIL),
        ({"maxmemory": 10**9, "used_memory": 9 * 10**8}, "900 of 1,000 MB used", Level.WARN),
        ({"aof_enabled": 0}, "forgets at a restart", Level.WARN),
        ({"role": "slave"}, "a replica", Level.FAIL),
    ],
)
def test_redis(changes: dict[str, Any], said: str, level: Level) -> None:
    assert levels(judge_redis(INFO, 0.0)) == {}
    assert levels(judge_redis({**INFO, **changes}, 0.0)) == {said: level}


def test_a_clock_is_judged_in_both_directions() -> None:
    assert [judge_skew("x", s).level for s in (0.9, -0.9, 1.1, -4.9, 5.1, -5.1)] == [
        Level.PASS, Level.PASS, Level.WARN, Level.WARN, Level.FAIL, Level.FAIL,
    ]  # fmt: skip


SETTINGS = Settings(partitions=12, kafka_replication=3)
LIMITS = {name: dict(topic.topic_configs or {}) for name, topic in wanted_topics(SETTINGS).items()}
GOOD = {**LIMITS["alerts"], "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


def topics(**changes: Any) -> Mapping[str, TopicFacts]:
    facts = {name: TopicFacts(partitions=12, copies=3, configs={**GOOD, **LIMITS[name]}) for name in LIMITS}
    return {**facts, "alerts": msgspec.structs.replace(facts["alerts"], **changes)}


@pytest.mark.parametrize(
    ("changes", "said", "level"),
    [
        ({"partitions": 4}, "alerts has 4 partitions, not 12", Level.FAIL),
        ({"leaderless": 2}, "alerts: 2 partitions have no leader", Level.FAIL),
        ({"thin": 1}, "alerts: 1 partitions lack a copy", Level.WARN),
        ({"copies": 1}, "1 copy of each partition", Level.WARN),
        ({"configs": {**GOOD, "retention.ms": "3600000"}}, "alerts: retention.ms is 3600000", Level.FAIL),
        ({"configs": {**GOOD, "cleanup.policy": "compact"}}, "alerts is compacted", Level.FAIL),
        ({"configs": {**GOOD, "min.insync.replicas": "1"}}, "alerts confirms with one copy", Level.FAIL),
        (
            {"configs": {**GOOD, "unclean.leader.election.enable": "true"}},
            "alerts may lose confirmed records",
            Level.FAIL,
        ),
        ({"configs": {}}, "the broker does not tell its topics' policies", Level.WARN),
    ],
)
def test_topics(changes: dict[str, Any], said: str, level: Level) -> None:
    assert levels(judge_topics(topics(), LIMITS, SETTINGS)) == {}
    assert levels(judge_topics(topics(**changes), LIMITS, SETTINGS)) == {said: level}


def test_retention_without_a_bound_is_enough_and_a_missing_topic_is_named() -> None:
    assert levels(judge_topics(topics(configs={**GOOD, "retention.bytes": "-1"}), LIMITS, SETTINGS)) == {}
    there = {name: facts for name, facts in topics().items() if name != "alerts"}
    [missing] = judge_topics(there, LIMITS, SETTINGS)
    assert (missing.said, missing.level) == ("topics are missing: alerts", Level.FAIL)


@pytest.mark.parametrize(
    ("applied", "first", "end", "behind", "lost"),
    [
        (9, 0, 10, 0, ""),
        (4, 0, 10, 5, ""),
        (4, 5, 10, 5, ""),
        (4, 6, 10, 4, "offsets 5 to 5 are no longer in the log"),
        (10, 0, 10, 0, "10 was applied, the log ends at 10: it is another log, or was put back itself"),
    ],
)
def test_a_position_fits_the_log_or_not(applied: int, first: int, end: int, behind: int, lost: str) -> None:
    one = Standing(topic="alerts", partition=0, applied=applied, first=first, end=end)
    assert (one.behind, one.lost) == (behind, lost)
    [said] = judge_log([one])
    assert said.level is (Level.FAIL if lost else Level.PASS)
    assert ("accept-new-log" in list(advice([one]))[-1]) == bool(lost)


def test_a_database_that_followed_another_log_is_told_what_to_do() -> None:
    assert "accept-new-log" in list(advice([]))[-1]


def ready(role: str, **more: Any) -> Answer:
    return Answer(**{"url": f"http://{role}", "role": role, "ready": True, "metrics": True, **more})


def test_roles() -> None:
    every = [ready(role) for role in ("gateway", "worker", "delivery", "bridge")]
    assert levels(judge_roles(every, amqp=True)) == {}
    assert levels(judge_roles(every[:3], amqp=False)) == {}
    assert levels(judge_roles(every[:3], amqp=True)) == {"not looked at: bridge": Level.WARN}
    found = judge_roles([*every[:3], Answer(url="http://b", problem="refused")], amqp=False)
    assert levels(found) == {"nobody answers at http://b: refused": Level.FAIL}
    away = ready("bridge", ready=False, down=("kafka (away)",))
    assert list(levels(judge_roles([*every[:3], away], amqp=True)).values()) == [Level.FAIL]
    assert list(levels(judge_roles([*every[:3], ready("bridge", metrics=False)], amqp=True)).values()) == [Level.WARN]


RULES = """
route:
  receiver: desk
  routes: [{{receiver: doctor, matchers: ['alertname="IncidentsDoctor"']}}]
receivers:
  - name: desk
    webhook_configs: [{{url: "http://127.0.0.1:{port}/desk"}}]
  - name: doctor
    webhook_configs: [{{url: "{url}"}}]
"""


async def test_every_target_is_tried_but_the_doctors_own(unused_tcp_port: int) -> None:
    rules = load(RULES.format(port=unused_tcp_port, url="http://127.0.0.1:18977/x"))
    own = Canary(Settings(), "http://127.0.0.1:1", rules).places
    assert own == {("127.0.0.1", 18977)}
    [one] = await look_at_receivers(rules, own)
    assert (one.level, f"127.0.0.1:{unused_tcp_port} is not reached" in one.said) == (Level.FAIL, True)


def test_the_canary_of_rules_that_wake_somebody_is_no_webhook_of_the_doctor() -> None:
    rules = load(RULES.format(port=1, url="https://hooks.example.org/x"))
    assert Canary(Settings(), "http://127.0.0.1:1", rules).places == set()


async def test_a_look_that_breaks_off_is_a_finding_without_the_password() -> None:
    async def breaks() -> list[Finding]:
        raise ConnectionError("refused")

    [one] = await looked("Postgres", "postgresql://u:secret@h/db", breaks, "start it")
    assert (one.level, one.said, one.remedy) == (Level.FAIL, "postgresql://u:***@h/db: refused", "start it")


def test_settings_that_lead_people_nowhere_are_named() -> None:
    assert list(levels(judge_settings(Settings(external_url="https://x"))).values()) == []
    assert list(levels(judge_settings(Settings())).values()) == [Level.WARN]
    assert list(levels(judge_settings(Settings(external_url="https://x", verdict_event_ids="none"))).values()) == [
        Level.FAIL
    ]


def test_the_system_of_the_data_folder_is_found_unless_an_address_was_given(tmp_path: Path) -> None:
    here = {
        "http": "http://127.0.0.1:5", "postgres": "postgresql://found", "redis": "redis://found", "kafka": "found:1",
        "amqp": None, "partitions": "2", "processes": [{"role": "gateway", "pid": 1, "url": "http://127.0.0.1:5"},
                                    {"role": "worker", "pid": 2, "url": "http://127.0.0.1:6"}],
    }  # fmt: skip
    (tmp_path / "endpoints.json").write_text(json.dumps(here), encoding="utf-8")
    settings = replace(Settings(), data_dir=str(tmp_path), redis_url="redis://given")
    found, said = found_here(settings, {"INCIDENTS_REDIS_URL": "redis://given"})
    assert (found.database_url, found.redis_url, found.kafka_url) == ("postgresql://found", "redis://given", "found:1")
    assert found.partitions == 2
    for given in ({"INCIDENTS_PARTITIONS": "4"}, {"INCIDENTS_KAFKA_URL": "other:1"}):
        assert found_here(settings, given)[0].partitions == settings.partitions == 4
    place = where(found, said, (), "", canary=True)
    assert (place.gateway, place.roles) == ("http://127.0.0.1:5", ("http://127.0.0.1:5", "http://127.0.0.1:6"))
    assert where(found, said, ("http://w",), "", canary=True).roles == ("http://127.0.0.1:5", "http://w")
    assert found_here(Settings(data_dir=str(tmp_path / "none")), {})[1] == {}


def test_postgres_programs_are_told_the_address_out_of_sight() -> None:
    told = environ_of("postgresql://us%40er:p%3Aw@db.example.org:6432/incidents?sslmode=require&application_name=x")
    assert told == {
        "PGHOST": "db.example.org", "PGPORT": "6432", "PGUSER": "us@er", "PGPASSWORD": "p:w",
        "PGDATABASE": "incidents", "PGSSLMODE": "require",
    }  # fmt: skip
