"""A digest says how many and which, the worst first, the same for the same tasks; its channel puts it in own words."""

import json
import uuid
from typing import Any

import msgspec
import pytest

from sinks.channel import NoTexts
from sinks.digests import MAX_ALERTS, digest_id, digest_of
from sinks.message import NoticeBody, encoded, incident_body, read_notice, webhook_body
from sinks.wording import account, headline
from tests.sinks.outbox import body
from tests.sinks.tellings import MADE_AT, RESOLVED

ID = uuid.UUID(int=5)


def notice(name: str, severity: str, status: str = "open", alerts: int = 1) -> NoticeBody:
    said: dict[str, Any] = body()
    said["incident"] |= {"id": name, "title": f"{name} is down", "severity": severity, "status": status}
    said["alerts"] = [RESOLVED if status == "resolved" else said["alerts"][0]] * alerts
    return read_notice(json.dumps(said), send_resolved=True)


def test_each_incident_is_told_once_as_it_was_last_the_worst_first() -> None:
    made = digest_of(
        ID,
        [
            notice("a", "info"),
            notice("b", "critical"),
            notice("c", "critical", "resolved"),
            notice("a", "warning"),
            notice("b", "critical"),
        ],
    )
    assert made.digest is not None
    assert [(one.id, one.severity, one.status, one.notices) for one in made.digest.incidents] == [
        ("b", "critical", "open", 2),
        ("c", "critical", "resolved", 1),
        ("a", "warning", "open", 2),
    ]
    assert headline(made) == "[DIGEST] 5 notices about 3 incidents, 2 critical"
    assert account(made).split("\n")[0].startswith("critical, open: b is down (2 notices) http")
    assert (made.incident.status, made.incident.severity) == ("open", "critical")
    assert read_notice(encoded(made), send_resolved=True) == made


def test_what_does_not_fit_is_counted() -> None:
    made = digest_of(ID, [notice(f"n{n}", "error", alerts=10) for n in range(300)])
    assert made.digest is not None
    assert (made.digest.count, len(made.digest.incidents)) == (300, 200)
    assert (len(made.alerts), made.truncated_alerts) == (MAX_ALERTS, 2500)
    assert "and 280 more incidents" in account(made)


@pytest.mark.parametrize("format_", ["alertmanager", "incidents"])
def test_machines_get_the_alerts_and_the_list(format_: str) -> None:
    made = digest_of(ID, [notice("a", "error"), notice("b", "error")])
    data = (
        webhook_body(made, {}, "digest") if format_ == "alertmanager" else incident_body(made, "i", "digest", MADE_AT)
    )
    said = msgspec.json.decode(data)
    assert said["digest"]["notices"] == 2
    assert len(said["alerts"]) == 2


def test_the_same_tasks_make_the_same_digest() -> None:
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    assert digest_id([one, two]) == digest_id([two, one]) != digest_id([one])


def test_no_template_is_rendered_for_a_digest() -> None:
    assert NoTexts().text("{{ .CommonLabels.x }}") == ""
    assert NoTexts().html("#ops") == "#ops"
