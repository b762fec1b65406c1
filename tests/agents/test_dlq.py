"""Dead letters: judged again they take the place of their refusal, once, and the sums stay true."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import msgspec
import pytest
from click.testing import CliRunner, Result
from redis.asyncio import Redis

from agents import dlq
from agents.__main__ import main
from agents.letter_text import body_text, table_of
from agents.replay import Outcome, Replayer, judged_again
from agents.terminal import printable
from sinks import alert_rows, dead_letter_rows
from sinks.alert_rows import DeadRow, joined
from sinks.dead_letter_rows import PACKED_ALERT, Letter, LetterState
from streams import codec
from streams.producer import EventProducer, partition_of
from streams.records import Alert, AlertBatch, Rejected, Verdict
from streams.settings import Settings
from tests.agents.stage import Dedup
from tests.agents.steps import POINTS, World, alert, at, run_through

LIMITS = Settings()
OWN = {"source": "shop", "status": "firing", "summary": "it is slow", "labels": {"alertname": "Slow", "zone": "a"}}
POSTED = {"labels": {"alertname": "Slow"}, "annotations": {"summary": "it is slow"}}


def letter(body: Any, **changed: Any) -> Letter:
    kept = body if isinstance(body, bytes) else json.dumps(body).encode()
    made: dict[str, Any] = {
        "event_id": "e1",
        "team": "default",
        "source": "shop",
        "field": "labels",
        "reason": "labels: too many",
        "content_type": "application/json",
        "via": "http",
        "received_at": at(0),
        "state": LetterState.WAITING,
        "changed_at": at(0),
        "size": len(kept),
        "body": kept,
    }
    return Letter(**{**made, **changed})


def taken(kept: Letter, mended: bytes | None = None, limits: Settings = LIMITS) -> tuple[Alert, ...]:
    judged = judged_again(kept, mended, limits)
    assert isinstance(judged, tuple), judged
    return judged


def refused(kept: Letter, mended: bytes | None = None, limits: Settings = LIMITS) -> Rejected:
    judged = judged_again(kept, mended, limits)
    assert isinstance(judged, Rejected)
    assert (judged.event_id, judged.replay_of) == ("e1", "e1")
    return judged


class TestJudgedAgain:
    def test_a_raised_limit_lets_it_in_as_of_when_it_was_received(self) -> None:
        kept = letter(OWN)
        assert refused(kept, limits=dataclasses.replace(LIMITS, max_labels=1)).field == "labels"
        [event] = taken(kept)
        assert (event.event_id, event.replay_of) == ("e1", "e1")
        assert event.event_at == event.starts_at == at(0)

    def test_a_mended_body_takes_the_place_and_keeps_the_event_id(self) -> None:
        kept = letter({**OWN, "summary": ""})
        assert refused(kept).field == "summary"
        [event] = taken(kept, json.dumps({**OWN, "event_id": "another"}).encode())
        assert event.event_id == "e1"

    def test_an_alertmanager_item_is_judged_by_that_format(self) -> None:
        kept = letter(POSTED, via="alertmanager", source="alertmanager")
        [event] = taken(kept)
        assert (event.event_id, event.timeout) == ("e1", True)
        assert event.ends_at == at(0) + timedelta(minutes=5)

    def test_a_body_of_several_is_taken_whole_the_first_in_the_letters_place(self) -> None:
        first, second = taken(letter([OWN, {**OWN, "event_id": "own"}]))
        assert (first.event_id, first.replay_of) == ("e1#0", "e1")
        assert (second.event_id, second.replay_of) == ("own", "")

    @pytest.mark.parametrize("body", [[OWN, {**OWN, "status": "odd"}], [], b"{", b"\xff\xfe", {"a": 1}])
    def test_or_not_at_all(self, body: Any) -> None:
        assert refused(letter(body)).reason

    def test_a_poison_alert_is_unpacked(self) -> None:
        event = alert("e1", "A", 3)
        kept = letter(codec.encode(event), content_type=PACKED_ALERT, source="poison")
        assert taken(kept) == (msgspec.structs.replace(event, replay_of="e1"),)

    def test_a_record_that_can_be_read_by_now_keeps_the_ids_of_its_events(self) -> None:
        record = AlertBatch(accepted_at=at(0), items=(alert("x", "A", 0), alert("y", "B", 0)))
        first, second = taken(letter(codec.encode(record), via="kafka", content_type=""))
        assert (first.event_id, first.replay_of, second.event_id, second.replay_of) == ("x", "e1", "y", "")

    @pytest.mark.parametrize(
        "changed", [{"via": "kafka", "content_type": ""}, {"content_type": PACKED_ALERT}], ids=["record", "alert"]
    )
    def test_bytes_that_cannot_be_read_are_refused_and_a_mended_body_helps(self, changed: dict[str, str]) -> None:
        kept = letter(b"\xc1", **changed)
        assert "cannot be read" in refused(kept).reason
        assert taken(kept, json.dumps(OWN).encode())[0].event_id == "e1"

    def test_a_body_that_was_cut_says_so(self) -> None:
        assert "--body" in refused(letter(json.dumps({**OWN, "summary": "x" * 70_000}).encode()[:65536])).reason


def rejected(event_id: str = "e1", **changed: Any) -> Rejected:
    return Rejected(event_id=event_id, source="shop", field="labels", reason="too many", body=b"{}", **changed)


class TestOnePartition:
    """What dedup makes of replays, without services."""

    def test_the_verdict_takes_the_place_of_the_refusal(self) -> None:
        partition = Dedup()
        partition.step(AlertBatch(accepted_at=at(0), items=(rejected(),)))
        partition.step(AlertBatch(accepted_at=at(9), items=(alert("e1", "A", 0, replay_of="e1"),)))
        sums = partition.rows.progress
        assert (sum(sums.values()), sums[Verdict.NEW], sums[Verdict.REJECTED]) == (1, 1, 0)
        [_, row] = partition.rows.verdicts
        assert (row.verdict, row.event_ids, row.reason) == ("new", "e1", "replayed")

    @pytest.mark.parametrize("keep", ["all", "first", "none"])
    def test_a_replay_keeps_its_id_whatever_the_setting(self, keep: str) -> None:
        partition = Dedup(verdict_event_ids=keep)
        items = tuple(alert(f"e{n}", "A", 0, replay_of=f"e{n}") for n in range(3))
        partition.step(AlertBatch(accepted_at=at(9), items=items))
        assert [row.event_ids for row in partition.rows.verdicts] == ["e0", joined(["e1", "e2"])]

    @pytest.mark.parametrize("together", [True, False])
    def test_delivered_twice_it_changes_nothing(self, together: bool) -> None:
        partition = Dedup()
        record = AlertBatch(accepted_at=at(9), items=(alert("e1", "A", 0, replay_of="e1"),))
        partition.step(AlertBatch(accepted_at=at(0), items=(rejected(),)))
        if together:
            partition.step(record, record)
        else:
            partition.step(record)
            partition.step(record)
        sums = partition.rows.progress
        assert (sum(sums.values()), sums[Verdict.NEW], sums[Verdict.REDELIVERED]) == (1, 1, 0)

    def test_refused_again_it_counts_no_second_time(self) -> None:
        partition = Dedup()
        partition.step(AlertBatch(accepted_at=at(0), items=(rejected(),)))
        again = AlertBatch(accepted_at=at(9), items=(rejected(replay_of="e1"), alert("e2", "A", 0, replay_of="e2")))
        work = partition.work([again], poisoned={(1, 1): "boom"})
        assert work.advance(1).counts == (0,) * 7
        assert (work.verdict_rows(), work.dead, list(work.outgoing())) == ([], [], [])
        assert [(one.event_id, one.reason) for one in work.refused_again] == [
            ("e1", "too many"), ("e2", "could not be handled: boom"),
        ]  # fmt: skip


class Producer:
    """Stands in for Kafka: what is published lies in the world's log, and is decided at once where asked."""

    def __init__(self, world: World, *, deciding: bool = True) -> None:
        self.world = world
        self.deciding = deciding
        self._one_owner = asyncio.Lock()

    async def publish(self, batch: AlertBatch, *, within: float) -> None:
        assert within > 0
        for item in batch.items:
            number = partition_of(item, len(self.world.log))
            self.world.log[number].append(codec.encode(msgspec.structs.replace(batch, items=(item,))))
        if self.deciding:
            async with self._one_owner:
                owner = await self.world.start()
                await owner.step()
                await owner.close()


@pytest.fixture
async def world(settings: Settings, database_url: str, redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    made = World(settings, database_url, redis, {0: [], 1: []})
    yield made
    await made.lose_redis()
    await redis.aclose()


async def receive(world: World, *items: Alert | Rejected, seconds: float = 0) -> None:
    await Producer(world).publish(AlertBatch(accepted_at=at(seconds), items=items), within=1)


async def replay(
    world: World, conn: asyncpg.Connection, *event_ids: str, body: Any = None, wait: float = 5, **how: Any
) -> list[tuple[str, str]]:
    producer = Producer(world, **how)
    mended = None if body is None else json.dumps(body).encode()
    letters = list((await dead_letter_rows.named(conn, event_ids)).values())
    replayer = Replayer(world.settings, conn, cast("EventProducer", producer), wait)
    return [(one.word, one.why) for one in await replayer.replay(letters, mended)]


async def sums(world: World) -> dict[str, int]:
    """The totals; that they add up, and are what the rows say, is checked."""
    rows = await world.rows()
    totals = [sum(column) for column in zip(*(row[4:] for row in rows["progress"]), strict=True)]
    assert totals[0] == sum(totals[1:])
    found = dict(zip(map(str, Verdict), totals[1:], strict=True))
    told = dict.fromkeys(found, 0)
    for row in rows["verdicts"]:
        told[row[2]] += row[5]
    assert told == {**found, "redelivered": 0}
    assert sum(row["event_count"] for row in rows["alerts"]) == sum(told.values()) - told["rejected"]
    return {"received": totals[0]} | {word: count for word, count in found.items() if count}


def own(event_id: str, summary: str = "", name: str = "Slow") -> Rejected:
    body = json.dumps({**OWN, "summary": summary, "labels": {"alertname": name}}).encode()
    return Rejected(
        event_id=event_id, source="shop", field="labels", reason="too many", body=body, content_type="application/json"
    )


async def test_replays_take_the_place_of_their_refusals(world: World, conn: asyncpg.Connection) -> None:
    await receive(world, *(own(f"e{n}", "slow", f"A{n % 3}") for n in range(12)), own("bad"))
    assert await sums(world) == {"received": 13, "rejected": 13}
    outcomes = await replay(world, conn, *(f"e{n}" for n in range(12)), "bad")
    assert [word for word, _ in outcomes] == ["replayed"] * 12 + ["refused"]
    assert sorted(why for _, why in outcomes[:12]) == ["duplicate"] * 9 + ["new"] * 3
    assert outcomes[12][1] == "summary: is empty"
    assert await sums(world) == {"received": 13, "new": 3, "duplicate": 9, "rejected": 1}
    assert await replay(world, conn, "bad", body=OWN) == [("replayed", "new")]
    assert await sums(world) == {"received": 13, "new": 4, "duplicate": 9}


@pytest.mark.parametrize("apart", [60.0, 3600.0], ids=["remembered", "forgotten"])
async def test_a_replay_delivered_twice_changes_nothing(world: World, conn: asyncpg.Connection, apart: float) -> None:
    await receive(world, rejected())
    event = alert("e1", "A", 0, replay_of="e1")
    await receive(world, event, seconds=10)
    expected = await sums(world), (await world.rows())["alerts"], world.told()
    await receive(world, event, seconds=10 + apart)
    assert (await sums(world), (await world.rows())["alerts"], world.told()) == expected
    assert await conn.fetchval("SELECT state FROM dead_letters") == "replayed"


async def test_two_replays_of_one_letter_with_other_labels_count_once(world: World, conn: asyncpg.Connection) -> None:
    names = {partition_of(alert("e1", f"A{n}", 0), 2): f"A{n}" for n in range(20)}
    await receive(world, rejected())
    await receive(world, *(alert("e1", name, 0, replay_of="e1") for name in names.values()), seconds=5)
    assert len(names) == 2
    assert await sums(world) == {"received": 1, "new": 1}
    assert await conn.fetchval("SELECT state FROM dead_letters") == "replayed"


async def test_an_event_that_came_again_by_itself_settles_its_letter(world: World, conn: asyncpg.Connection) -> None:
    await receive(world, own("e1", "slow"))
    [event] = taken(letter({**OWN, "summary": "slow", "labels": {"alertname": "Slow"}}))
    await receive(world, msgspec.structs.replace(event, replay_of=""), seconds=1)
    [(word, why)] = await replay(world, conn, "e1")
    assert (word, why.split(",")[0]) == ("dropped", "its event is known already")
    assert await sums(world) == {"received": 2, "new": 1, "rejected": 1}


async def test_a_replay_that_postgres_refuses_stays_with_the_new_reason(world: World, conn: asyncpg.Connection) -> None:
    await conn.execute("ALTER TABLE alerts ADD CHECK (summary <> 'slow')")
    await receive(world, own("e1", "slow"), own("e2", "slower", "Other"))
    outcomes = await replay(world, conn, "e1", "e2")
    assert outcomes[0][0] == "refused"
    assert "refused by Postgres" in outcomes[0][1]
    assert outcomes[1] == ("replayed", "new")
    assert await sums(world) == {"received": 2, "new": 1, "rejected": 1}


async def test_what_is_not_decided_in_time_is_said_and_may_be_repeated(world: World, conn: asyncpg.Connection) -> None:
    await receive(world, own("e1", "slow"))
    for _ in range(2):
        [(word, why)] = await replay(world, conn, "e1", wait=0, deciding=False)
        assert (word, "no worker has decided" in why) == ("unconfirmed", True)
    assert await replay(world, conn, "e1") == [("replayed", "by an earlier replay")]
    assert await sums(world) == {"received": 1, "new": 1}


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_within_the_step_changes_nothing(world: World, conn: asyncpg.Connection, point: str) -> None:
    bad = AlertBatch(accepted_at=at(0), items=(rejected("e1"), rejected("e2")))
    again = AlertBatch(accepted_at=at(9), items=(alert("e1", "A", 0, replay_of="e1"), rejected("e2", replay_of="e2")))
    world.log[0] = [codec.encode(bad), codec.encode(again)]
    world.log[1] = [codec.encode(AlertBatch(accepted_at=at(n), items=(alert(f"x{n}", "X", 0),))) for n in (0, 9)]
    await run_through(world, [1, 2], [(2, point)])
    assert await sums(world) == {"received": 4, "new": 2, "duplicate": 1, "rejected": 1}
    found = await dead_letter_rows.standings(conn, ["e1", "e2"])
    assert [found[name].state for name in ("e1", "e2")] == ["replayed", "waiting"]


class TestCommands:
    """The commands as they are typed, on a real database."""

    @pytest.fixture(autouse=True)
    def _wired(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INCIDENTS_DATABASE_URL", database_url)
        monkeypatch.setenv("INCIDENTS_KAFKA_URL", "127.0.0.1:1")
        monkeypatch.setattr(dlq, "_CONNECT_S", 0.1)
        rows = [
            DeadRow(name, "default", source, "labels", why, body, "application/json", "http", at(seconds))
            for seconds, (name, source, why, body) in enumerate([
                ("e1", "shop", "labels: too many", json.dumps(OWN).encode()),
                ("e2", "bank", "is \x1b[31mred", b"\xff\x00" * 400),
                ("e3", "shop", "summary: is empty", "späť\x1b]0;x\x07".encode()),
            ])
        ]  # fmt: skip
        _sync(database_url, lambda conn: alert_rows.bury(conn, rows))

    def run(self, *words: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(main, ["dlq", words[0], "--direct", *words[1:]], input=answer)

    def test_where_no_gateway_answers_postgres_is_asked_and_that_is_said(self) -> None:
        result = CliRunner().invoke(main, ["dlq", "list", "--url", "http://127.0.0.1:1"])
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, 4)
        assert "does not answer" in result.stderr
        assert "Asking Postgres and Kafka themselves." in result.stderr

    def test_list_shows_what_waits_and_no_control_characters(self) -> None:
        result = self.run("list")
        head, *lines = result.stdout.splitlines()
        assert result.exit_code == 0
        assert head.split()[:2] == ["event", "id"]
        assert [line.split()[0] for line in lines] == ["e3", "e2", "e1"]
        assert "is \\x1b[31mred" in lines[1]

    def test_list_as_json_by_source_and_limit(self) -> None:
        found = json.loads(self.run("list", "--source", "shop", "--limit", "1", "--json").output)
        assert [(row["event_id"], row["reason"], row["size"]) for row in found] == [("e3", "summary: is empty", 12)]

    def test_list_of_nothing_says_so(self) -> None:
        assert self.run("list", "--state", "replayed").output == "no dead letters are replayed\n"
        assert self.run("list", "--state", "odd").exit_code == 2

    def test_show_decodes_the_body_as_far_as_it_can_be(self) -> None:
        assert '"zone": "a"' in self.run("show", "e1").output
        binary = self.run("show", "e2").output
        assert "ff00ff00" in binary
        assert "288 bytes more" in binary
        assert "späť\\x1b]0;x\\x07" in self.run("show", "e3").output

    def test_show_raw_gives_the_bytes(self) -> None:
        assert self.run("show", "e2", "--raw").stdout_bytes == b"\xff\x00" * 400

    @pytest.mark.parametrize(("code", "words"), [
        (3, ("show", "nobody")), (3, ("drop", "e1", "nobody", "--yes")), (3, ("replay", "nobody")), (2, ("replay",)),
        (2, ("drop",)), (2, ("replay", "e1", "--all")), (2, ("drop", "e1", "--source", "shop")),
        (2, ("replay", "e1", "--body", "/nowhere")),
    ])  # fmt: skip
    def test_what_cannot_be_meant_ends_with_2_or_3_and_changes_nothing(self, code: int, words: tuple[str, ...]) -> None:
        assert self.run(*words).exit_code == code
        assert len(json.loads(self.run("list", "--json").output)) == 3

    def test_an_unknown_id_is_named_with_the_remedy(self) -> None:
        assert "no dead letter has the event id nobody; `incidents dlq list" in self.run("show", "nobody").output

    def test_drop_asks_first(self) -> None:
        assert self.run("drop", "e1", answer="n\n").exit_code == 1
        unanswered = self.run("drop", "e1", answer="")
        assert (unanswered.exit_code, "say --yes" in unanswered.output) == (1, True)
        dropped = self.run("drop", "--all", "--source", "shop", answer="y\n")
        assert "Drop 2 dead letters for good?" in dropped.output
        assert (dropped.exit_code, dropped.output.splitlines()[-1]) == (0, "2 dropped")
        assert self.run("drop", "e1").output == "0 dropped\n"

    def test_replay_without_kafka_names_it_and_sends_nothing(self) -> None:
        result = self.run("replay", "e1")
        assert result.exit_code == 1
        assert "Kafka at 127.0.0.1:1 does not answer" in result.output
        assert "nothing was replayed" in result.output

    def test_replay_tells_each_outcome_and_ends_with_1_when_one_was_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def told(_: Replayer, letters: list[Letter], _mended: bytes | None) -> list[Outcome]:
            word: dict[str, tuple[Any, str]] = {
                "e1": ("replayed", "new"),
                "e2": ("refused", "body: is not JSON"),
                "e3": ("replayed", "late"),
            }
            return [Outcome(one.event_id, *word[one.event_id]) for one in letters]

        monkeypatch.setattr(Replayer, "replay", told)
        monkeypatch.setattr(EventProducer, "connected", True)
        result = self.run("replay", "--all", "--source", "shop")
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "2 replayed")
        result = self.run("replay", "e1", "e2")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-3:] == [
            "replayed     e1  new", "refused      e2  body: is not JSON", "1 replayed, 1 refused",
        ]  # fmt: skip


def test_a_packed_alert_is_shown_as_json() -> None:
    event = alert("e1", "A", 0)
    shown = json.loads(body_text(letter(codec.encode(event), content_type=PACKED_ALERT)))
    assert (shown["event_id"], shown["body"]["summary"], shown["content"]) == ("e1", "A is slow", event.content.hex())
    record = codec.encode(AlertBatch(accepted_at=datetime.now(UTC), items=(event, rejected("e2"))))
    assert [item["event_id"] for item in json.loads(body_text(letter(record, via="kafka")))] == ["e1"]
    assert body_text(letter(b"\xc1\x00", content_type=PACKED_ALERT)) == "c100"


def test_text_that_could_steer_a_terminal_is_escaped() -> None:
    assert printable("a\u202eb\ud800\r\n\x9b") == "a\\u202eb?\\r\\n\\x9b"


def test_a_table_on_a_terminal_keeps_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    wide = letter(OWN, event_id="e" * 60, reason="because " * 40)
    cut = list(table_of([wide], narrow=True))
    assert [len(line) <= 100 for line in cut] == [True, True]
    assert cut[1].startswith("e" * 43 + "…")
    assert "because " * 39 in list(table_of([wide], narrow=False))[1]


def _sync(url: str, work: Any) -> None:
    async def job() -> None:
        conn = await asyncpg.connect(url)
        try:
            await work(conn)
        finally:
            await conn.close()

    asyncio.run(job())
