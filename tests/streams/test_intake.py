"""Intake: what each body is taken as, and how each bad one is named."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import codec, keys
from streams.intake import Parsed, Refusal, parse_alertmanager, parse_own
from streams.intake_words import kind_of, severity_of
from streams.records import Alert, AlertBatch, AlertBody, Kind, Link, Rejected, Severity
from streams.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMITS = Settings()
SMALL = dataclasses.replace(LIMITS, max_labels=3, max_label_bytes=20, max_annotation_bytes=40, max_items=3, max_depth=5)


def own(**more: object) -> dict[str, object]:
    said = {"source": "test", "status": "firing", "summary": "s", "labels": {"alertname": "A"}, **more}
    return {name: value for name, value in said.items() if value is not ...}


def posted(**more: object) -> dict[str, object]:
    return {"labels": {"alertname": "A"}, **more}


def text(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def take(body: object, limits: Settings = LIMITS, **more: Any) -> Parsed:
    return parse_own(text(body), accepted_at=NOW, limits=limits, **more)


def take_am(body: object, limits: Settings = LIMITS, **more: Any) -> Parsed:
    return parse_alertmanager(text(body), accepted_at=NOW, limits=limits, **more)


def only(parsed: Parsed) -> Alert:
    (item,) = parsed.items
    assert isinstance(item, Alert), item
    return item


def refused(parsed: Parsed) -> Rejected:
    (item,) = parsed.items
    assert isinstance(item, Rejected), item
    return item


def body_of(parsed: Parsed) -> AlertBody:
    return codec.decode_body(only(parsed).body)


BAD_TEXT = b'{"source":"s","status":"firing","summary":"x","labels":{"a":"b"},'
BAD_OWN: list[tuple[str, object, str]] = [
    ("nothing", b"", "body"),
    ("blanks", b" \r\n", "body"),
    ("null", b"null", "body"),
    ("a number", b"12", "body"),
    ("a string", b'"x"', "body"),
    ("words", b"hello", "body"),
    ("cut short", b'{"source":"s"', "body"),
    ("cut short in a string", b'{"source":"s', "body"),
    ("two documents", text(own()) + text(own()), "body"),
    ("brackets crossed", b'{"a":[}]', "body"),
    ("comma at the end", text(own())[:-1] + b",}", "body"),
    ("NaN as a value", BAD_TEXT + b'"x":NaN}', "x"),
    ("infinity as a label", BAD_TEXT[:-1].replace(b'"b"', b"-Infinity") + b"}", "labels.a"),
    ("bytes that are not UTF-8", BAD_TEXT + b'"description":"\xff"}', "description"),
    ("bad UTF-8 in a label", BAD_TEXT.replace(b'"b"', b'"\xc3("')[:-1] + b"}", "labels.a"),
    ("bad UTF-8 in a name", BAD_TEXT + b'"annotations":{"\xff":"x"}}', "annotations.?"),
    ("a lone surrogate", BAD_TEXT + b'"description":"\\ud83d"}', "description"),
    ("a surrogate pair turned round", BAD_TEXT + b'"description":"\\ude00\\ud83d"}', "description"),
    ("a surrogate as bytes", BAD_TEXT + b'"description":"\xed\xa0\x80"}', "description"),
    ("a raw control character", BAD_TEXT + b'"description":"\x00"}', "body"),
    ("no source", own(source=...), "source"),
    ("no status", own(status=...), "status"),
    ("no summary", own(summary=...), "summary"),
    ("no labels", own(labels=...), "labels"),
    ("source null", own(source=None), "source"),
    ("source empty", own(source=""), "source"),
    ("source a number", own(source=1), "source"),
    ("summary empty", own(summary=""), "summary"),
    ("summary a list", own(summary=["x"]), "summary"),
    ("status unknown", own(status="open"), "status"),
    ("status in capitals", own(status="FIRING"), "status"),
    ("labels a list", own(labels=[]), "labels"),
    ("labels null", own(labels=None), "labels"),
    ("labels empty", own(labels={}), "labels"),
    ("only empty labels", own(labels={"a": ""}), "labels"),
    ("an empty label name", own(labels={"": "x"}), "labels"),
    ("a label that is a number", own(labels={"a": 1}), "labels.a"),
    ("a label that is null", own(labels={"a": None}), "labels.a"),
    ("a label that is an object", own(labels={"a": {}}), "labels.a"),
    ("a label that is true", own(labels={"a": True}), "labels.a"),
    ("an annotation that is a number", own(annotations={"x": 1.5}), "annotations.x"),
    ("annotations a string", own(annotations="x"), "annotations"),
    ("severity a number", own(severity=1), "severity"),
    ("kind a list", own(kind=[]), "kind"),
    ("event_id a number", own(event_id=7), "event_id"),
    ("event_id too long", own(event_id="x" * 513), "event_id"),
    ("dedup_key too long", own(dedup_key="é" * 3000), "dedup_key"),
    ("a time that is a number", own(starts_at=1700000000), "starts_at"),
    ("a time in words", own(starts_at="yesterday"), "starts_at"),
    ("a date alone", own(starts_at="2026-01-01"), "starts_at"),
    ("a day that is not", own(ends_at="2026-02-30T00:00:00Z"), "ends_at"),
    ("a time without a zone", own(starts_at="2026-01-01T00:00:00"), "starts_at"),
    ("the year 10000", own(starts_at="10000-01-01T00:00:00Z"), "starts_at"),
    ("the year 9999", own(starts_at="9999-01-01T00:00:00Z"), "starts_at"),
    ("the year 1", own(starts_at="0001-01-01T00:00:00Z"), "starts_at"),
    ("a time before all time", own(starts_at="0001-01-01T00:00:00+14:00"), "starts_at"),
    ("an end before the start", own(starts_at="2026-01-02T00:00:00Z", ends_at="2026-01-01T00:00:00Z"), "ends_at"),
    ("links an object", own(links={}), "links"),
    ("a link that is a number", own(links=[1]), "links.0"),
    ("a link without href", own(links=[{"text": "x"}]), "links.0.href"),
    ("a link that is a program", own(links=["https://a", "javascript:alert(1)"]), "links.1.href"),
    ("too many links", own(links=["https://a"] * 65), "links"),
    ("65 labels", own(labels={f"l{n}": "x" for n in range(65)}), "labels"),
    ("a label too long", own(labels={"a": "x" * 4097}), "labels.a"),
    ("a label too long in bytes", own(labels={"a": "é" * 2049}), "labels.a"),
    ("a label name too long", own(labels={"n" * 5000: "x"}), "labels." + "n" * 100),
    ("an annotation too long", own(annotations={"a": "x" * 32_769}), "annotations.a"),
    ("a description too long", own(description="x" * 40_000), "description"),
    ("an alert too large", own(annotations={f"a{n}": "x" * 30_000 for n in range(5)}), "annotations.a0"),
    ("an unknown field nested deep", own(more=json.loads("[" * 40 + "]" * 40)), "more"),
    ("nested beyond any stack", b'{"labels":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "labels"),
    ("objects nested beyond any stack", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "a"),
    ("a string that never ends its escapes", BAD_TEXT + b'"x":"\\', "body"),
    ("a huge number", BAD_TEXT + b'"summary":' + b"9" * 5000 + b"}", "body"),
]


@pytest.mark.parametrize(("body", "field"), [row[1:] for row in BAD_OWN], ids=[row[0] for row in BAD_OWN])
def test_a_bad_body_is_refused_by_field(body: object, field: str) -> None:
    item = refused(take(body))
    assert item.field == field
    assert item.reason.startswith(f"{field}: ")
    assert item.event_id
    assert len(item.body) <= 65_536
    assert msgspec.msgpack.decode(codec.encode(item), type=Rejected).reason == item.reason


@pytest.mark.parametrize(("body", "field"), [row[1:] for row in BAD_OWN], ids=[row[0] for row in BAD_OWN])
def test_the_good_items_around_a_bad_one_are_taken(body: object, field: str) -> None:
    parsed = take(b"[" + text(own(event_id="a")) + b"," + text(body) + b"," + text(own(event_id="b")) + b"]")
    if parsed.refusal is None:
        assert [item.event_id for item in parsed.items if isinstance(item, Alert)][:1] == ["a"]
        assert any(isinstance(item, Rejected) for item in parsed.items)
    else:  # the list itself cannot be read
        assert field in {"body", "labels.a"} or b"\\" in text(body)
        assert len(parsed.items) == 1


def test_bodies_past_a_bound_are_refused_whole() -> None:
    tight = dataclasses.replace(LIMITS, max_message_bytes=500)
    assert take(own(description="x" * 600), tight).refusal is Refusal.TOO_LARGE
    assert take([own()] * 4, SMALL).refusal is Refusal.TOO_MANY
    assert take([{}] * 4, SMALL).refusal is Refusal.TOO_MANY
    assert take_am([posted()] * 4, SMALL).refusal is Refusal.TOO_MANY
    assert take_am(posted()).refusal is Refusal.MALFORMED
    assert refused(take_am([posted(), {"annotations": {}}])).field == "1.labels"
    assert take_am([posted(), {"annotations": {}}]).refusal is Refusal.MISSING_LABELS
    assert take_am([posted(), {"labels": None, "x": 1}]).refusal is Refusal.MISSING_LABELS


def test_limits_are_settings() -> None:
    assert refused(take(own(labels={"a": "x" * 21}), SMALL)).reason == "labels.a: longer than 20 bytes"
    assert refused(take(own(labels=dict.fromkeys("abcd", "x")), SMALL)).field == "labels"
    assert refused(take(own(x=[[[[[[]]]]]]), SMALL)).reason == "x: nested deeper than 5 levels"
    assert only(take(own(x=[[[[]]]]), SMALL)).firing


def test_an_alert_in_full() -> None:
    said = own(
        event_id="e1",
        dedup_key="k",
        severity="P2",
        kind="rate-limit",
        description="d",
        labels={"alertname": "A", "severity": "page", "gone": ""},
        annotations={"runbook": "r"},
        starts_at="2026-03-01T13:00:00.123456789+02:00",
        links=["https://x/1", {"href": "HTTP://x/2", "text": "two"}],
    )
    alert = only(take(said, team="blue"))
    assert alert.event_id == "e1"
    assert alert.team == "blue"
    assert alert.identity == keys.hashed(keys.identity_of_key("blue", "test", "k"))
    assert alert.firing
    assert alert.starts_at == alert.event_at == datetime(2026, 3, 1, 11, 0, 0, 123457, tzinfo=UTC)
    assert alert.starts_at is not None
    assert alert.starts_at.tzinfo is UTC
    assert alert.ends_at is None
    assert codec.decode_body(alert.body) == AlertBody(
        source="test",
        severity=Severity.ERROR,
        kind=Kind.RATE_LIMIT,
        summary="s",
        description="d",
        labels={"alertname": "A", "severity": "page"},
        annotations={"runbook": "r"},
        links=(Link("https://x/1"), Link("HTTP://x/2", "two")),
    )


TIMES: list[tuple[str, dict[str, object], datetime, datetime | None, datetime | None]] = [
    ("firing, no times", {}, NOW, None, None),
    ("firing since", {"starts_at": "2026-03-01T11:00:00Z"}, NOW - timedelta(hours=1), NOW - timedelta(hours=1), None),
    (
        "from the future",
        {"starts_at": "2026-03-01T13:00:00Z"},
        NOW + timedelta(minutes=5),
        NOW + timedelta(hours=1),
        None,
    ),
    ("resolved, no times", {"status": "resolved"}, NOW, None, NOW),
    (
        "resolved at",
        {"status": "resolved", "starts_at": "2026-03-01T10:00:00Z", "ends_at": "2026-03-01T11:00:00Z"},
        NOW - timedelta(hours=1),
        NOW - timedelta(hours=2),
        NOW - timedelta(hours=1),
    ),
]


@pytest.mark.parametrize(
    ("more", "event_at", "starts_at", "ends_at"), [row[1:] for row in TIMES], ids=[r[0] for r in TIMES]
)
def test_what_orders_an_event(
    more: dict[str, object], event_at: datetime, starts_at: datetime | None, ends_at: datetime | None
) -> None:
    alert = only(take(own(**more)))
    assert (alert.event_at, alert.starts_at, alert.ends_at) == (event_at, starts_at, ends_at)


AM_TIMES: list[tuple[str, str | None, str | None, bool, bool, timedelta, timedelta]] = [
    ("no times", None, None, True, True, timedelta(), timedelta(minutes=5)),
    ("zero times", "0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z", True, True, timedelta(), timedelta(minutes=5)),
    ("ends later", None, "2026-03-01T12:04:00Z", True, False, timedelta(minutes=4), timedelta(minutes=4)),
    (
        "ended",
        "2026-03-01T11:00:00Z",
        "2026-03-01T11:30:00Z",
        False,
        False,
        timedelta(hours=-1),
        timedelta(minutes=-30),
    ),
    ("ends now", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z", False, False, timedelta(hours=-1), timedelta()),
    ("ended, start unset", None, "2026-03-01T11:30:00Z", False, False, timedelta(minutes=-30), timedelta(minutes=-30)),
    ("no zone is UTC", "2026-03-01T11:00:00", None, True, True, timedelta(hours=-1), timedelta(minutes=5)),
]


@pytest.mark.parametrize(
    ("starts", "ends", "firing", "timeout", "start", "end"), [r[1:] for r in AM_TIMES], ids=[r[0] for r in AM_TIMES]
)
def test_alertmanagers_times(
    starts: str | None, ends: str | None, firing: bool, timeout: bool, start: timedelta, end: timedelta
) -> None:
    alert = only(take_am([posted(startsAt=starts, endsAt=ends)]))
    assert (alert.firing, alert.timeout, alert.starts_at, alert.ends_at) == (firing, timeout, NOW + start, NOW + end)
    assert alert.event_at == NOW


BAD_AM: list[tuple[str, object, str]] = [
    ("no labels in it", {}, "labels"),
    ("only empty ones", {"a": ""}, "labels"),
    ("a number", {"a": 1}, "labels.a"),
    ("an empty name", {"": "x"}, "labels"),
    ("a list", [], "labels"),
]


@pytest.mark.parametrize(("labels", "field"), [row[1:] for row in BAD_AM], ids=[row[0] for row in BAD_AM])
def test_alertmanagers_bad_labels_leave_the_good_alert(labels: object, field: str) -> None:
    good, bad = take_am([posted(), posted(labels=labels)]).items
    assert isinstance(good, Alert)
    assert isinstance(bad, Rejected)
    assert bad.field == field


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"startsAt": "x"}, "startsAt"),
        ({"endsAt": 5}, "endsAt"),
        ({"startsAt": "2026-03-01T11:00:00Z", "endsAt": "2026-03-01T10:00:00Z"}, "endsAt"),
        ({"startsAt": "2027-03-01T11:00:00Z"}, "endsAt"),
        ({"annotations": {"a": 1}}, "annotations.a"),
        ({"generatorURL": 1}, "generatorURL"),
        ({"x": json.loads("[" * 40 + "]" * 40)}, "x"),
    ],
)
def test_alertmanagers_bad_fields_are_named(more: dict[str, object], field: str) -> None:
    assert refused(take_am([posted(**more)])).field == field


def test_alertmanagers_alert_in_full() -> None:
    said = posted(
        labels={"alertname": "A", "severity": "page", "kind": "latency", "empty": ""},
        annotations={"summary": "s", "description": "d"},
        generatorURL="http://prometheus/graph?x=1",
        fingerprint="passed over",
    )
    parsed = take_am([said], header_event_id="k")
    assert only(parsed).event_id == "k#0"
    labels = {"alertname": "A", "severity": "page", "kind": "latency"}
    assert only(parsed).identity == keys.hashed(keys.identity_of_labels("default", labels))
    body = body_of(parsed)
    assert (body.summary, body.description, body.labels) == ("s", "d", labels)
    assert (body.severity, body.kind) == (Severity.CRITICAL, Kind.LATENCY)
    assert (body.generator_url, body.raw) == ("http://prometheus/graph?x=1", "")


def test_an_address_that_would_run_as_a_program_is_not_kept() -> None:
    assert body_of(take_am([posted(generatorURL="javascript:alert(1)")])).generator_url == ""


def test_the_same_labels_are_the_same_alert_whichever_way_they_come() -> None:
    ours = only(take(own(labels={"a": "1", "b": "2", "c": ""})))
    theirs = only(take_am([posted(labels={"b": "2", "a": "1"})]))
    assert ours.identity == theirs.identity


def test_event_ids() -> None:
    assert only(take(own(), header_event_id="h")).event_id == "h"
    assert [item.event_id for item in take([own(), own(event_id="mine")], header_event_id="h").items] == ["h#0", "mine"]
    assert refused(take(own(event_id="mine", source=1), header_event_id="h")).event_id == "mine"
    assert refused(take(own(event_id=5), header_event_id="h")).event_id == "h"
    first, second = take([own(), own()]).items
    assert first.event_id != second.event_id
    assert only(take(own())).event_id != only(take(own())).event_id


def test_nul_becomes_a_replacement_character_and_an_escaped_backslash_stays() -> None:
    body = body_of(take(b'{"source":"s","status":"firing","summary":"a\\u0000b","labels":{"x\\u0000":"\\\\u0000"}}'))
    assert body.summary == "a\ufffdb"
    assert body.labels == {"x\ufffd": "\\u0000"}


def test_a_byte_order_mark_is_passed_over() -> None:
    assert only(take(b"\xef\xbb\xbf" + text(own()))).firing
    assert only(take_am(b"\xef\xbb\xbf" + text([posted()]))).firing


def test_unknown_fields_are_kept_as_raw_and_do_not_change_the_content() -> None:
    plain, more = take(own()), take(own(custom={"a": [1, 2]}))
    assert body_of(plain).raw == ""
    assert json.loads(body_of(more).raw)["custom"] == {"a": [1, 2]}
    assert only(plain).content == only(more).content
    assert only(take(own(summary="other"))).content != only(plain).content


def test_raw_is_cut_before_the_alert_is_refused() -> None:
    tight = dataclasses.replace(LIMITS, max_alert_bytes=300)
    alert = only(take(own(custom="x" * 5000), tight))
    assert len(alert.body) <= 300
    assert codec.decode_body(alert.body).raw.startswith('{"source"')


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("P1", Severity.CRITICAL),
        ("p2", Severity.ERROR),
        ("P3", Severity.WARNING),
        ("P4", Severity.INFO),
        ("P5", Severity.INFO),
        ("page", Severity.CRITICAL),
        (" Warning ", Severity.WARNING),
        ("CRITICAL", Severity.CRITICAL),
        (None, Severity.UNKNOWN),
        ("very bad", None),
    ],
)
def test_severity_words(word: str | None, severity: Severity | None) -> None:
    assert severity_of(word) is severity


def test_a_word_nobody_knows_is_unknown_and_the_label_stays() -> None:
    body = body_of(take(own(labels={"alertname": "A", "severity": "very bad", "kind": "strange"})))
    assert (body.severity, body.kind) == (Severity.UNKNOWN, Kind.OTHER)
    assert body.labels["severity"] == "very bad"
    assert body_of(take(own(severity="p1", labels={"a": "b", "severity": "info"}))).severity is Severity.CRITICAL
    assert kind_of("Prompt Injection") is Kind.PROMPT_INJECTION


plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
label_sets = st.dictionaries(plain_text, plain_text, min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    ["source", "status", "summary", "labels", "severity", "starts_at", "ends_at", "links", "event_id", "startsAt", "x"]
)


@given(label_sets, plain_text, plain_text)
def test_what_is_good_comes_through_unchanged(labels: dict[str, str], source: str, summary: str) -> None:
    said = msgspec.json.encode(own(labels=labels, source=source, summary=summary))
    body = body_of(parse_own(said, accepted_at=NOW, limits=LIMITS))
    assert (body.labels, body.source, body.summary) == (labels, source, summary)
    theirs = parse_alertmanager(msgspec.json.encode([{"labels": labels}]), accepted_at=NOW, limits=LIMITS)
    assert body_of(theirs).labels == labels


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(body: bytes) -> None:
    for parsed in (take(body), take_am(body)):
        assert_travels(parsed)


@given(st.one_of(json_values, st.lists(st.dictionaries(field_names, json_values | label_sets, max_size=8), max_size=4)))
def test_any_json_gets_one_verdict_an_item(value: object) -> None:
    for parsed in (take(value), take_am(value)):
        assert_travels(parsed)
        if isinstance(value, list) and parsed.refusal is None:
            assert len(parsed.items) == len(value)


@given(st.lists(st.dictionaries(field_names, json_values | label_sets, max_size=8), max_size=4), st.data())
def test_a_body_with_one_byte_changed_gets_a_verdict(value: list[object], data: st.DataObject) -> None:
    body = bytearray(text(value))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert_travels(take(bytes(body)))
    assert_travels(take_am(bytes(body)))


def assert_travels(parsed: Parsed) -> None:
    """Whatever came out can be sent on, fits Postgres, and names its field."""
    batch = AlertBatch(accepted_at=NOW, items=tuple(parsed.items))
    assert codec.decode_alerts(codec.encode(batch)) == batch
    for item in parsed.items:
        assert "\0" not in item.event_id
        if isinstance(item, Rejected):
            assert item.reason.startswith(f"{item.field}: ")
            assert "\0" not in item.reason + item.source
        else:
            assert b"\0" not in codec.decode_body(item.body).summary.encode()
