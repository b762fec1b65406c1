"""HTTP intake: what each body is answered, and where its events are afterwards."""

import asyncio
import dataclasses
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from streams.fallback import FallbackUnavailableError
from streams.handover import Breaker, Circuit, Handover
from streams.producer import KafkaUnavailableError, OverloadedError
from streams.records import Alert, AlertBatch, Rejected
from streams.settings import Settings
from web.ingest import ALERTMANAGER, OWN, Ingest


class Place:
    """Stands for Kafka or RabbitMQ: keeps what it is given, or raises."""

    def __init__(self) -> None:
        self.connected = True
        self.behind = False
        self.looked_anew = 0
        self.raises: Exception | None = None
        self.batches: list[AlertBatch] = []

    def look_anew(self) -> None:
        self.looked_anew += 1

    async def publish(self, batch: AlertBatch) -> None:
        if self.raises is not None:
            raise self.raises
        self.batches.append(batch)

    @property
    def items(self) -> list[Alert | Rejected]:
        return [item for batch in self.batches for item in batch.items]


class Sender:
    """A client of the app, with both places."""

    def __init__(self, settings: Settings) -> None:
        self.kafka, self.rabbit, self.now = Place(), Place(), 0.0
        self.breaker = Breaker(lambda: self.now)
        app = Ingest(settings, Handover(self.kafka, self.rabbit, self.breaker, lambda: self.now))
        transport = httpx.ASGITransport(app=app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def own(self, body: Any, **headers: str) -> httpx.Response:
        return await self._post(OWN, body, headers)

    async def alertmanager(self, body: Any, **headers: str) -> httpx.Response:
        return await self._post(ALERTMANAGER, body, headers)

    async def _post(self, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=content, headers={"content-type": "application/json", **named})


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[Sender]:
    made = Sender(dataclasses.replace(settings, max_message_bytes=20_000, max_items=50))
    yield made
    await made.http.aclose()


def own(**more: object) -> dict[str, object]:
    return {"source": "test", "status": "firing", "summary": "s", "labels": {"alertname": "A"}, **more}


def posted(**more: object) -> dict[str, object]:
    return {"labels": {"alertname": "A"}, **more}


async def test_one_alert_is_accepted_with_its_event_id(sender: Sender) -> None:
    answer = await sender.own(own(event_id="e1"))
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "rejected": [], "event_ids": ["e1"]}
    assert [item.event_id for item in sender.kafka.items] == ["e1"]


async def test_what_another_site_has_a_browser_send_is_refused(sender: Sender) -> None:
    assert (await sender.own(own(), sec_fetch_site="cross-site")).status_code == 403
    assert (await sender.alertmanager([posted()], sec_fetch_site="same-site")).status_code == 403
    assert sender.kafka.items == []
    assert (await sender.own(own(), sec_fetch_site="same-origin")).status_code == 202


async def test_an_idempotency_key_names_the_events(sender: Sender) -> None:
    assert (await sender.own(own(), idempotency_key="k")).json()["event_ids"] == ["k"]
    assert (await sender.own([own(), own()], idempotency_key="k")).json()["event_ids"] == ["k#0", "k#1"]
    assert (await sender.own(own(), idempotency_key="k" * 256)).status_code == 400


async def test_good_items_of_a_mixed_list_are_taken_and_the_bad_ones_named(sender: Sender) -> None:
    answer = await sender.own([own(event_id="good"), {"status": "firing"}, own(status="open")])
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    assert answer.json()["rejected"] == [
        {"index": 1, "field": "source", "reason": "source: is missing"},
        {"index": 2, "field": "status", "reason": "status: must be firing or resolved"},
    ]
    assert [type(item) for item in sender.kafka.items] == [Alert, Rejected, Rejected]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"not json", "body"),
        (b"null", "body"),
        (b'{"source":', "body"),
        (b'{"labels": {"a": "\xff"}, "source":"s","status":"firing","summary":"x"}', "labels.a"),
        (b'{"x": ' + b"[" * 9000 + b"]" * 9000 + b"}", "x"),
        (json.dumps(own(labels={"a": 1})).encode(), "labels.a"),
        (json.dumps(own(labels={"a": "x" * 5000})).encode(), "labels.a"),
        (json.dumps(own(starts_at="yesterday")).encode(), "starts_at"),
    ],
)
async def test_a_body_without_a_good_item_is_400_and_names_the_field(sender: Sender, body: bytes, field: str) -> None:
    answer = await sender.own(body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert answer.json()["detail"].startswith(field)
    assert [type(item) for item in sender.kafka.items] == [Rejected]


async def test_an_empty_list_is_accepted_and_nothing_is_sent(sender: Sender) -> None:
    assert (await sender.own([])).json() == {"accepted": 0, "rejected": [], "event_ids": []}
    assert (await sender.alertmanager([])).status_code == 200
    assert sender.kafka.items == []


async def test_alertmanager_senders_get_an_empty_200(sender: Sender) -> None:
    answer = await sender.alertmanager([posted(), posted(labels={"alertname": "B"})])
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(sender.kafka.items) == 2
    assert {batch.via for batch in sender.kafka.batches} == {"alertmanager"}


async def test_alertmanager_senders_get_400_for_a_bad_item_while_the_good_are_taken(sender: Sender) -> None:
    answer = await sender.alertmanager([posted(), posted(labels={"a": ""})])
    assert answer.status_code == 400
    assert [type(item) for item in sender.kafka.items] == [Alert, Rejected]


async def test_alertmanager_senders_get_422_for_a_missing_labels_key_and_nothing_is_taken(sender: Sender) -> None:
    answer = await sender.alertmanager([posted(), {"annotations": {}}])
    assert answer.status_code == 422
    assert [type(item) for item in sender.kafka.items] == [Rejected]


@pytest.mark.parametrize("body", [b"", b"x", b"{}", b"null", b"[", b"[{]"])
async def test_alertmanager_senders_get_400_for_what_is_no_list(sender: Sender, body: bytes) -> None:
    assert (await sender.alertmanager(body)).status_code == 400


async def test_a_large_body_is_413_whichever_way_it_comes(sender: Sender) -> None:
    large = json.dumps([own()] * 400).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"[" * 1000

    assert (await sender.own(large)).status_code == 413
    assert (await sender.http.post(OWN, content=chunks())).status_code == 413
    assert (await sender.own(gzip.compress(large), content_encoding="gzip")).status_code == 413
    assert (await sender.own(gzip.compress(b" " * 10_000_000), content_encoding="gzip")).status_code == 413
    assert (await sender.own([1] * 51)).status_code == 413
    assert [type(item) for item in sender.kafka.items] == [Rejected]


async def test_gzip_is_unpacked_and_other_encodings_and_types_are_415(sender: Sender) -> None:
    body = json.dumps(own()).encode()
    assert (await sender.own(gzip.compress(body), content_encoding="gzip")).status_code == 202
    assert (await sender.own(gzip.compress(body)[:-9], content_encoding="gzip")).status_code == 400
    assert (await sender.own(body, content_encoding="gzip")).status_code == 400
    assert (await sender.own(body, content_encoding="br")).status_code == 415
    assert (await sender.own(body, content_type="text/plain")).status_code == 415
    assert (await sender.own(body, content_type="application/json; charset=utf-8")).status_code == 202


async def test_while_kafka_does_not_confirm_rabbitmq_has_the_same_events(sender: Sender) -> None:
    sender.kafka.raises = KafkaUnavailableError("no confirmation")
    answer = await sender.own(own())
    assert answer.status_code == 202
    assert [item.event_id for item in sender.rabbit.items] == answer.json()["event_ids"]


async def test_after_a_failure_kafka_is_passed_over_until_one_try_works(sender: Sender) -> None:
    sender.kafka.raises = KafkaUnavailableError("no confirmation")
    await sender.own(own())
    sender.kafka.raises = None
    await sender.own(own())
    assert (len(sender.kafka.items), len(sender.rabbit.items)) == (0, 2)
    sender.now = 5.0
    await sender.own(own())
    assert (len(sender.kafka.items), len(sender.rabbit.items)) == (1, 2)
    assert sender.breaker.circuit is Circuit.CLOSED


async def test_one_at_a_time_tries_a_kafka_that_failed() -> None:
    breaker = Breaker(lambda: 10.0)
    breaker.failed("away")
    breaker_later = Breaker(iter([0.0, 5.0, 5.0]).__next__)
    breaker_later.failed("away")
    assert not breaker.lets_through(connected=True)
    assert breaker_later.lets_through(connected=True)
    assert not breaker_later.lets_through(connected=True)
    breaker_later.gave_up()
    assert breaker_later.circuit is Circuit.OPEN


async def test_nothing_overtakes_what_rabbitmq_still_holds(sender: Sender) -> None:
    sender.rabbit.behind, sender.kafka.connected = True, False
    await sender.own(own())
    sender.now += 600
    sender.kafka.connected = True
    await sender.own(own())
    assert (len(sender.kafka.items), len(sender.rabbit.items)) == (0, 2)

    sender.rabbit.raises = FallbackUnavailableError("away")
    assert (await sender.own(own())).status_code == 202
    assert (len(sender.kafka.items), len(sender.rabbit.items)) == (1, 2)

    sender.rabbit.raises, sender.rabbit.behind = None, False
    await sender.own(own())
    assert (len(sender.kafka.items), len(sender.rabbit.items)) == (2, 2)


async def test_a_queue_that_was_empty_while_the_bridge_had_no_kafka_is_looked_at_anew(sender: Sender) -> None:
    sender.kafka.connected = False
    await sender.own(own())
    await sender.own(own())
    assert sender.rabbit.looked_anew == 0
    sender.kafka.connected = True
    await sender.own(own())
    await sender.own(own())
    assert (sender.rabbit.looked_anew, len(sender.kafka.items)) == (1, 2)


async def test_a_queue_that_stays_long_is_not_waited_for(sender: Sender) -> None:
    sender.rabbit.behind = True
    for seconds, in_kafka in ((0, 0), (29, 0), (31, 1)):
        sender.now = seconds
        await sender.own(own())
        assert len(sender.kafka.items) == in_kafka


async def test_without_a_connection_rabbitmq_is_asked_at_once(sender: Sender) -> None:
    sender.kafka.connected = False
    assert (await sender.own(own())).status_code == 202
    assert len(sender.rabbit.items) == 1
    assert sender.breaker.circuit is Circuit.CLOSED


@pytest.mark.parametrize("error", [KafkaUnavailableError("away"), OverloadedError("full")])
async def test_when_neither_takes_it_nobody_hears_2xx(sender: Sender, error: Exception) -> None:
    sender.kafka.raises, sender.rabbit.raises = error, FallbackUnavailableError("away")
    ours = await sender.own(own())
    theirs = await sender.alertmanager([posted()])
    assert (ours.status_code, theirs.status_code) == (429, 503)
    assert ours.headers["retry-after"] == theirs.headers["retry-after"] == "1"


async def test_what_is_refused_is_still_400_when_neither_is_there(sender: Sender) -> None:
    sender.kafka.raises, sender.rabbit.raises = KafkaUnavailableError("away"), FallbackUnavailableError("away")
    assert (await sender.own({"source": "x"})).status_code == 400


async def test_the_sender_going_away_in_the_middle_takes_nothing(settings: Settings) -> None:
    kafka = Place()
    app = Ingest(settings, Handover(kafka, Place()))
    sent: list[Any] = []
    messages = iter([{"type": "http.request", "body": b"[", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await app({"type": "http", "method": "POST", "path": OWN, "headers": []}, receive, send)
    assert kafka.items == []
    assert sent[0]["status"] == 400


async def test_other_routes_are_not_answered_here(sender: Sender) -> None:
    assert (await sender.http.get(OWN)).status_code == 404


async def test_too_many_bodies_at_once_are_answered_as_overload(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.http_body.MAX_HELD", 10)
    assert (await sender.own(own())).status_code == 429
    assert (await sender.alertmanager([posted()])).status_code == 503
    monkeypatch.undo()
    assert (await sender.own(own())).status_code == 202
