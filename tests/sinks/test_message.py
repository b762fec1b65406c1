"""A notice becomes Alertmanager's webhook body, the same bytes each time."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sinks.jinja_texts import words
from sinks.message import UnusableNoticeError, common, incident_body, read_notice, webhook_body
from tests.sinks.outbox import body

ENDED = {
    "status": "resolved",
    "labels": {"alertname": "Down", "service": "db"},
    "annotations": {},
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "2026-01-01T00:05:00Z",
    "generatorURL": "http://127.0.0.1/graph",
    "fingerprint": "00000000000000bb",
}


def rendered(stored: dict[str, Any], *, send_resolved: bool = True, **options: Any) -> dict[str, Any]:
    notice = read_notice(json.dumps(stored), send_resolved=send_resolved)
    result: dict[str, Any] = json.loads(webhook_body(notice, options, "first"))
    return result


def test_the_body_is_alertmanagers_version_4_with_the_incident_beside_it() -> None:
    firing = body()["alerts"][0]
    made = rendered(body(alerts=[firing, ENDED]))
    assert made["version"] == "4"
    assert made["status"] == "firing"
    assert made["groupKey"] == "ab" * 16
    assert made["commonLabels"] == {"alertname": "Down"}
    assert made["commonAnnotations"] == {}
    assert made["truncatedAlerts"] == 0
    assert made["receiver"] == "ops"
    assert made["groupLabels"] == {"alertname": "Down"}
    assert made["externalURL"] == "http://127.0.0.1:8080"
    assert made["alerts"] == [{**firing, "endsAt": "0001-01-01T00:00:00Z"}, ENDED]
    assert made["incident"]["title"] == "Down"
    assert made["incident"]["reason"] == "first"


def test_a_group_of_which_nothing_fires_is_resolved() -> None:
    assert rendered(body(alerts=[ENDED]))["status"] == "resolved"


def test_without_send_resolved_only_what_fires_is_told() -> None:
    firing = body()["alerts"][0]
    assert [alert["status"] for alert in rendered(body(alerts=[firing, ENDED]), send_resolved=False)["alerts"]] == [
        "firing"
    ]
    with pytest.raises(UnusableNoticeError):
        rendered(body(alerts=[ENDED]), send_resolved=False)


def test_what_max_alerts_cuts_is_counted() -> None:
    made = rendered(body(alerts=[ENDED] * 5, truncatedAlerts=2), max_alerts=3)
    assert (len(made["alerts"]), made["truncatedAlerts"]) == (3, 4)


@pytest.mark.parametrize("stored", ["", "{}", "[]", "[" * 5000])
def test_a_body_that_cannot_be_read_says_so(stored: str) -> None:
    with pytest.raises(UnusableNoticeError):
        read_notice(stored, send_resolved=True)


def test_common_entries_are_those_of_all() -> None:
    assert common([]) == {}
    assert common([{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": ""}]) == {"a": "1"}


def test_our_own_format_carries_the_receivers_own_words() -> None:
    notice = read_notice(json.dumps(body()), send_resolved=True)
    options = {"title": "{{ incident.title|upper }}", "text": "{{ alerts.append(1) }}"}
    own = words(options, notice, "first")
    assert own == {"title": "DOWN"}
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    assert json.loads(incident_body(notice, "id", "first", made_at, own))["message"] == {"title": "DOWN"}
    assert "message" not in json.loads(incident_body(notice, "id", "first", made_at))
