"""The sink keeps its ledger of what really arrived."""

from pathlib import Path

import httpx

from loadtests.sink_server import Sink, notices_of


async def test_each_notice_is_written_down_with_key_attempt_and_hash(tmp_path: Path) -> None:
    ledger = tmp_path / "sink.jsonl"
    async with Sink(ledger, answer=lambda number: 500 if number == 0 else 200) as sink, httpx.AsyncClient() as client:
        body = {"status": "firing", "incident": {"id": "i-1"}}
        for expected in (500, 200):
            answer = await client.post(f"{sink.url}/team-a", json=body, headers={"Idempotency-Key": "task-1"})
            assert answer.status_code == expected
        await client.post(f"{sink.url}/team-b", content=b"no JSON")
        await sink.until(3)
        first, second, other = sink.notices
    assert (first.target, first.key, first.incident, first.status) == ("team-a", "task-1", "i-1", "firing")
    assert [(notice.attempt, notice.answered) for notice in (first, second)] == [(1, 500), (2, 200)]
    assert first.body_hash == second.body_hash != other.body_hash
    assert (other.target, other.key, other.incident, other.attempt) == ("team-b", "", "", 1)
    assert notices_of(ledger) == [first, second, other]
