"""Rows of dead letters: each is taken once, and its refusal is taken back with it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from sinks import alert_rows, dead_letter_rows
from sinks.alert_rows import DeadRow, VerdictRow, joined
from sinks.dead_letter_rows import AlreadyReplayedError, LetterState, RefusedAgain

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
Conn = asyncpg.Connection


def dead(event_id: str, seconds: float = 0, source: str = "shop") -> DeadRow:
    return DeadRow(
        event_id, "default", source, "labels", "labels: too many", b"{}", "application/json", "http",
        T0 + timedelta(seconds=seconds),
    )  # fmt: skip


def verdict(event_id: str, word: str = "rejected", events: int = 1, days: float = 0) -> VerdictRow:
    identity = None if word == "rejected" else "a" * 32
    decided_at = T0 + timedelta(days=days)
    one = 1 if identity else None
    return VerdictRow("log", 0, 5, word, identity, one, events, joined([event_id]), "", "http", T0, decided_at)


async def refused(conn: Conn, *letters: DeadRow) -> None:
    await alert_rows.bury(conn, letters)
    await decided(conn, *(verdict(letter.event_id) for letter in letters))


async def decided(conn: Conn, *rows: VerdictRow) -> None:
    await alert_rows.write(conn, [], [], rows)


async def settle(conn: Conn, *replayed: str, again: Sequence[RefusedAgain] = (), known: Sequence[str] = ()) -> None:
    async with conn.transaction():
        await dead_letter_rows.settle(conn, replayed=replayed, again=again, known=known)


async def refusals(conn: Conn) -> list[tuple[str, int]]:
    rows = await conn.fetch("SELECT event_ids[1], events FROM verdicts WHERE verdict = 'rejected' ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def states(conn: Conn) -> dict[str, str]:
    return {row[0]: row[1] for row in await conn.fetch("SELECT event_id, state FROM dead_letters ORDER BY event_id")}


async def test_the_newest_come_first_by_source_and_state_without_their_bodies(conn: Conn) -> None:
    await refused(conn, dead("a", 1), dead("b", 2, "bank"), dead("c", 3))
    await dead_letter_rows.drop(conn, ["c"])
    found = await dead_letter_rows.newest(conn, source=None, state=None, limit=10)
    assert [letter.event_id for letter in found] == ["c", "b", "a"]
    assert {(letter.body, letter.size) for letter in found} == {(b"", 2)}
    assert [x.event_id for x in await dead_letter_rows.newest(conn, source="shop", state=None, limit=1)] == ["c"]
    waiting = await dead_letter_rows.newest(conn, source="shop", state=LetterState.WAITING, limit=10)
    assert [letter.event_id for letter in waiting] == ["a"]


async def test_all_that_wait_are_walked_through_in_order_though_they_go_on_waiting(conn: Conn) -> None:
    await refused(conn, dead("d", 9), dead("b", 1), dead("a", 1), dead("c", 2))
    seen, last = [], None
    until = T0 + timedelta(seconds=5)
    while some := await dead_letter_rows.waiting(conn, source=None, until=until, after=last, limit=2):
        seen += [letter.event_id for letter in some]
        last = some[-1]
    assert seen == ["a", "b", "c"]
    assert await dead_letter_rows.count_waiting(conn, source=None, until=until) == 3


async def test_only_what_waits_is_dropped(conn: Conn) -> None:
    await refused(conn, dead("a"), dead("b"), dead("c", 0, "bank"), dead("d", 60))
    await settle(conn, "a")
    assert await dead_letter_rows.drop(conn, ["a", "b"]) == 1
    assert await dead_letter_rows.drop_all(conn, source=None, until=T0) == 1
    assert await states(conn) == {"a": "replayed", "b": "dropped", "c": "dropped", "d": "waiting"}


async def test_a_replay_takes_back_one_refusal_of_its_event(conn: Conn) -> None:
    await refused(conn, dead("a"), dead("b"), dead("c"))
    await decided(conn, verdict("b", days=-3), verdict("c", events=2), verdict("a", "new"), verdict("d", events=3))
    await conn.execute("DELETE FROM verdicts WHERE event_ids[1] = 'c' AND events = 1")
    await settle(conn, "a", "b", "c")
    assert [count for name, count in await refusals(conn) if name == "b"] == [1]
    assert ("c", 1) in await refusals(conn)
    assert "a" not in dict(await refusals(conn))
    assert ("d", 3) in await refusals(conn)
    assert await conn.fetchval("SELECT count(*) FROM verdicts WHERE verdict = 'new'") == 1


async def test_an_event_id_with_the_separator_in_it_is_found_too(conn: Conn) -> None:
    await refused(conn, dead("a\x1fb"))
    await settle(conn, "a\x1fb")
    assert await refusals(conn) == []


async def test_a_letter_is_replayed_once(conn: Conn) -> None:
    await refused(conn, dead("a"), dead("b"))
    await settle(conn, "a")
    for ids in (["a"], ["b", "b"], ["nobody"]):
        with pytest.raises(AlreadyReplayedError, match="replayed before"):
            await settle(conn, *ids)
    assert await states(conn) == {"a": "replayed", "b": "waiting"}
    assert await refusals(conn) == [("b", 1)]


async def test_a_second_refusal_renews_the_reason_and_nothing_else(conn: Conn) -> None:
    await refused(conn, dead("a"), dead("b"))
    await settle(conn, "b")
    before = await dead_letter_rows.standings(conn, ["a", "b"])
    again = [RefusedAgain("a", "x", "not yet"), RefusedAgain("a", "summary", "is empty"), RefusedAgain("b", "", "no")]
    await settle(conn, again=again)
    after = await dead_letter_rows.standings(conn, ["a", "b"])
    assert (after["a"].state, after["a"].reason) == (LetterState.WAITING, "is empty")
    assert after["a"].changed_at > before["a"].changed_at
    assert after["b"] == before["b"]
    assert await refusals(conn) == [("a", 1)]


async def test_a_letter_whose_event_is_known_is_dropped_unless_it_was_replayed(conn: Conn) -> None:
    await refused(conn, dead("a"), dead("b"))
    await settle(conn, "b", known=["a", "b"])
    assert await states(conn) == {"a": "dropped", "b": "replayed"}
    assert await refusals(conn) == [("a", 1)]


async def test_a_refusal_is_found_by_its_index(conn: Conn) -> None:
    await conn.execute("SET enable_seqscan = off")
    plan = await conn.fetch("EXPLAIN " + dead_letter_rows._UNREJECT.replace("$1", "'{a,b}'"))
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan" not in text, text


async def test_the_verdict_of_a_replay_is_found_by_its_event(conn: Conn) -> None:
    await decided(conn, verdict("a"), verdict("a", "late"), verdict("b", "new", days=-1))
    assert await dead_letter_rows.verdicts(conn, ["a", "b"], since=T0) == {"a": "late"}
