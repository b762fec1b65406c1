"""The story of one alert in plain words, over HTTP and on the command line."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main
from agents.api_client import address_of
from agents.rules.group_state import GroupState
from agents.rules.notify_log import Pending, Told
from sinks import config_rows
from streams import codec, keys
from streams.records import IncidentStatus, Kind, Severity
from streams.settings import Settings
from tests.web.rows import add_alert, add_incident, add_task
from tests.web.test_alertmanager_api import stored

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres
LABELS = {"alertname": "CostBurn", "service": "chat"}
PRINT = keys.fingerprint(LABELS)
IDENTITY = keys.hashed(keys.identity_of_labels("default", LABELS))
NOW = datetime.now(UTC)
RULES = (
    "route: {receiver: desk, group_by: [service], group_interval: 5m, repeat_interval: 4h}\nreceivers: [{name: desk}]"
)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


async def verdict(conn: "Conn", name: str, minutes: float, events: int = 1, reason: str = "") -> None:
    await conn.execute(
        "INSERT INTO verdicts VALUES ('l', 0, 1, $1, $2, 1, $3, '{}', $4, 'alertmanager', $5, $5)",
        name, IDENTITY, events, reason, ago(minutes),
    )  # fmt: skip


async def decision(
    conn: "Conn", name: str, reason: str, minutes: float, *, of_alert: bool = False, **detail: Any
) -> None:
    await conn.execute(
        "INSERT INTO decisions VALUES ('g', $1, NULL, $2, $3, $4, $5, $6)",
        int(1e6 - minutes * 1000), IDENTITY if of_alert else None, name, reason, json.dumps(detail), ago(minutes),
    )  # fmt: skip


@pytest.fixture
async def story(conn: "Conn") -> uuid.UUID:
    """A firing alert that was told once, silenced, and heard again."""
    await conn.execute("TRUNCATE decisions, groups, config_versions")
    version = await config_rows.store(conn, RULES, "test")
    incident = await add_incident(conn, "Cost doubled", receiver="desk")
    await add_alert(conn, incident, LABELS, starts_at=ago(60), summary="Cost doubled", **stored(LABELS))
    group = GroupState(
        team="default", route="{}", labels={"service": "chat"}, receiver="desk", config_version=version, revision=9,
        incident_id=str(incident), status=IncidentStatus.OPEN, severity=Severity.ERROR, kind=Kind.COST, title="t",
        description="", opened_at=ago(60), updated_at=ago(1), next_flush_at=NOW + timedelta(minutes=3),
        told={"desk/0": Told((f"{IDENTITY}:1",), (), ago(30))},
        pending={"desk/1": Pending(2, "task", (), (), ago(1))},
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO groups VALUES ('g', 0, 'default', '{}', '{}', 9, $1, $2)", codec.encode(group), NOW
    )  # fmt: skip
    await conn.execute("UPDATE incident_alerts SET state = ''")
    await verdict(conn, "new", 60)
    await verdict(conn, "duplicate", 20, 7)
    await verdict(conn, "duplicate", 2, 5)
    await decision(
        conn, "grouped", "route {}", 60, of_alert=True, labels={"service": "chat"}, flush_at=ago(59).isoformat()
    )
    await decision(conn, "task made", "first firing", 59, to="desk/0")
    await decision(conn, "task made", "another group's", 90, to="elsewhere/0")
    await decision(conn, "inhibited by", "00ff", 40, of_alert=True)
    await decision(conn, "heard again", "00ff", 35, of_alert=True)
    notice = uuid.uuid4()
    await conn.execute(
        "INSERT INTO notices VALUES ($1, $2, 1, $3, $4)", notice, incident,
        json.dumps({"alerts": [{"fingerprint": PRINT}]}), ago(59),
    )  # fmt: skip
    for state, number, finished in (("sent", 1, ago(58)), ("due", 2, None)):
        await conn.execute(
            """INSERT INTO notification_tasks (id, notice_id, incident_id, group_key, team, decision, receiver,
               integration, channel, target, reason, state, attempts, due_at, last_reason, created_at, finished_at,
               config_version)
               VALUES ($1, $2, $3, 'g', 'default', $4, 'desk', 0, 'webhook', 't', 'first firing', $5, 1, $6, 'timeout',
               $6, $7, 1)""",
            uuid.uuid4(), notice, incident, number, state, ago(58.5), finished,
        )  # fmt: skip
    return incident


def said(lines: list[dict[str, Any]]) -> list[str]:
    return [line["text"] for line in lines]


async def test_it_says_what_came_what_was_decided_and_who_was_told_in_order(
    client: httpx.AsyncClient, story: uuid.UUID
) -> None:
    found = (await client.get(f"/api/v1/alerts/{PRINT}/explain")).json()
    assert [one["id"] for one in found["incidents"]] == [str(story)]
    assert (found["alert"]["labels"], found["standing"]["state"], found["receivers"]) == (LABELS, "active", ["desk"])
    texts = said(found["lines"])
    waits = f"{ago(59):%Y-%m-%d %H:%M:%S} UTC"
    assert texts == [
        "It fired, as alertmanager said.",
        f'It joined the group {{service="chat"}} on the top route. Its first notice waits until {waits}.',
        "A notice to desk was decided: first firing.",
        "desk is about to be told by webhook: first firing (attempt 1, timeout).",
        "desk was told by webhook: first firing.",
        "Alert 00ff fires and muted it.",
        "It is no longer muted by 00ff.",
        f"It was repeated 12 times since {ago(20):%Y-%m-%d %H:%M:%S} UTC, and folded.",
    ]
    assert {line["kind"] for line in found["lines"]} == {"came", "decided", "told"}
    assert found == (await client.get(f"/api/v1/alerts/{IDENTITY}/explain")).json()


async def test_every_state_of_a_notice_has_its_words(client: httpx.AsyncClient, conn: "Conn", story: uuid.UUID) -> None:
    digest = uuid.uuid4()
    await add_task(conn, await add_incident(conn, "Of the digest"), 1, id=digest)
    for before, after in (("sent", "digested"), ("due", "folded")):
        await conn.execute(
            "UPDATE notification_tasks SET state = $1, digest_id = $2 WHERE state = $3 AND incident_id = $4",
            after, digest, before, story,
        )  # fmt: skip
    found = (await client.get(f"/api/v1/alerts/{PRINT}/explain")).json()
    assert [text for text in said(found["lines"]) if "digest" in text] == [
        "desk is about to be told by webhook in a digest with others: first firing.",
        "desk was told by webhook in a digest with others: first firing.",
    ]


@pytest.mark.usefixtures("story")
async def test_it_says_what_happens_next(client: httpx.AsyncClient) -> None:
    ends_at = (NOW + timedelta(hours=1)).isoformat()
    silence = {
        "matchers": [[{"name": "service", "value": "chat"}]],
        "ends_at": ends_at,
        "created_by": "ada",
        "comment": "later",
    }
    made = (await client.post("/api/v1/silences", json=silence)).json()["id"]
    found = (await client.get(f"/api/v1/alerts/{PRINT}/explain")).json()
    assert found["standing"]["silencedBy"] == [made]
    assert said(found["next"]) == [
        'The group {service="chat"} decides whom to tell.',
        f"Silence {made} (later) ends.",
        "desk is told again, if nothing has changed by then.",
        "It ends by itself, unless it is said again before.",
        "A notice to desk/1 is under way; the next one waits for it.",
    ]
    repeat = datetime.fromisoformat(found["next"][2]["at"])
    assert repeat == NOW + timedelta(minutes=3) + timedelta(minutes=5) * 42, "the first flush after four hours"


async def test_an_unknown_alert_has_no_story(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/alerts/0123456789abcdef/explain")).status_code == 404


async def run(*arguments: str) -> Result:
    """One command, beside the gateway's loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


@pytest.mark.usefixtures("story")
async def test_the_command_line_tells_the_same_and_manages_silences(client: httpx.AsyncClient) -> None:
    url = f"--url={client.base_url}"
    told = await run("explain", PRINT, url)
    assert told.exit_code == 0, told.output
    assert "It is firing and active; it goes to desk." in told.output
    assert "desk was told by webhook: first firing." in told.output
    assert "The group" in told.output.partition("Next:")[2]
    assert "No alert has this fingerprint" in (await run("explain", "nobody", url)).output

    shown = await run("silence", "preview", "service=chat", url)
    assert "1 firing alert, 1 open incident" in shown.output
    made = await run("silence", "add", "service=chat", 'alertname=~"Cost.*"', "-c", "deploying", "-a", "ada", url)
    silence = made.output.strip()
    assert str(uuid.UUID(silence)) == silence
    listed = (await run("silence", "list", url)).output
    assert f"{silence[:8]}  active " in listed
    assert [json.loads(line)["id"] for line in (await run("silence", "list", "--json", url)).output.splitlines()] == [
        silence
    ]
    longer = await run("silence", "edit", silence[:8], "-d", "3h", "-c", "it takes longer", "-a", "ada", "--json", url)
    assert (longer.exit_code, json.loads(longer.output)["comment"]) == (0, "it takes longer"), longer.output
    assert (await run("silence", "edit", silence[:8], url)).exit_code == 2
    assert (await run("silence", "show", "ffffffff", url)).exit_code == 3
    assert json.loads((await run("explain", PRINT, "--json", url)).output)["receivers"] == ["desk"]
    assert 'alertname=~"Cost.*" service="chat"' in listed
    assert "created by ada" in (await run("silence", "show", silence[:8], url)).output
    assert f"{silence}  expired" in (await run("silence", "expire", silence, url)).output
    assert silence[:8] in (await run("silence", "list", "--expired", url)).output
    weekly = ("--every", "FREQ=WEEKLY;BYDAY=SU", "--until", (NOW + timedelta(days=30)).isoformat(), "--remind", "30m")
    again = await run("silence", "add", "service=chat", "-c", "backups", "-d", "2h", *weekly, url)
    assert again.exit_code == 0, again.output
    assert "comes back by FREQ=WEEKLY;BYDAY=SU" in (await run("silence", "show", again.output.strip(), url)).output
    for wrong, reason in (
        (("service=~(", "-c", "x"), "refused"),
        (("service=~.*", "-c", "x"), "must not match the empty string"),
        (("service=chat",), "say why"),
        (("service=chat", "-c", "x", "-d", "1.5h"), "--duration 1.5h is not a length of time: write it like 30m"),
        (("service=chat", "-c", "x", "--remind", "soon"), "--remind soon is not a length of time"),
        (("service=chat", "-c", "x", "--end", "soon"), "--end soon is not a moment: write it like"),
        (("service=chat", "-c", "x", "--start", "0001-01-01"), "--start 0001-01-01 is not a moment"),
        (("service=chat", "-c", "x", "--start", "9999-12-31T23:59Z"), "out of range"),
        (("service=chat", "-c", "x", "--every", "FREQ=DAILY"), "go together"),
    ):
        answer = await run("silence", "add", *wrong, url)
        assert answer.exit_code == 1
        assert reason in answer.output


async def test_what_senders_write_does_not_steer_the_terminal(client: httpx.AsyncClient, conn: "Conn") -> None:
    labels = {"alertname": "\x1b[2J\x1b]0;owned\x07", "service": "a\r\nb"}
    await add_alert(conn, None, labels, **stored(labels))
    url = f"--url={client.base_url}"
    made = await run("silence", "add", 'service=~"a(.|\\n)*"', "-c", "\x1b[31mred", "-a", "\x9bada", url)
    silence = made.output.split()[-1]
    answers = [
        await run("explain", keys.fingerprint(labels), url),
        await run("silence", "preview", 'service=~"a(.|\\n)*"', url),
        await run("silence", "list", url),
        await run("silence", "show", silence, url),
        await run("silence", "add", 'service=~"\x1b("', "-c", "x", url),
    ]
    assert [answer.exit_code for answer in answers] == [0, 0, 0, 0, 1]
    for answer in answers:
        assert not set(answer.output) & {"\x1b", "\x9b", "\x07", "\r"}
    assert r"\x1b]0;owned\x07" in answers[0].output


async def test_a_user_without_a_name_may_silence(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_123_456)
    monkeypatch.setenv("GATEWAY_URL", str(client.base_url))
    made = await run("silence", "add", "service=chat", "-c", "x")
    assert made.exit_code == 0, made.output
    silence = made.output.split()[-1]  # after what the gateway logs
    ended = await run("silence", "expire", silence)
    assert ended.exit_code == 0, ended.output
    assert "expired by uid 4123456" in (await run("silence", "show", silence)).output


def test_the_gateway_is_asked_itself_and_not_at_the_address_of_the_page(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), http_port=8081, external_url="https://door.example.org")
    assert address_of(settings, "") == "http://127.0.0.1:8081"
    (tmp_path / "endpoints.json").write_text('{"http": "http://127.0.0.1:9999"}')
    assert address_of(settings, "") == "http://127.0.0.1:9999"
    assert address_of(settings, "http://a/") == "http://a"


async def test_a_gateway_that_does_not_answer_is_named() -> None:
    answer = await run("silence", "list", "--url=http://127.0.0.1:9")
    assert (answer.exit_code, "http://127.0.0.1:9 does not answer" in answer.output) == (4, True)
