"""A notice as amtool and we see it: the same alerts in both shapes."""

import json
from typing import Any

from sinks.gotemplate.data import Data
from sinks.message import NoticeBody, read_notice
from sinks.template_data import data_of
from tests.sinks.outbox import body

FIRING: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "CostBurn", "service": "chat", "severity": "critical", "zone": "eu <1>"},
    "annotations": {"summary": 'Cost & more "quoted" +1', "runbook": "https://x.example.org/a?b=c&d='e'"},
    "startsAt": "2026-02-25T09:30:05.123456Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prom.example.org/graph?g0.expr=up+%3D%3D+0",
    "fingerprint": "0123456789abcdef",
}
RESOLVED: dict[str, Any] = {
    "status": "resolved",
    "labels": {"alertname": "CostBurn", "service": "chat", "severity": "warning"},
    "annotations": {"summary": "Ünïcode"},
    "startsAt": "2026-02-25T09:00:00Z",
    "endsAt": "2026-02-25T21:10:00Z",
    "generatorURL": "",
    "fingerprint": "ff",
}


def notice_of(alerts: list[dict[str, Any]]) -> NoticeBody:
    """A notice of these alerts."""
    stored = body(
        alerts=alerts, receiver="team-x", groupLabels={"alertname": "CostBurn"}, externalURL="https://am.example.org"
    )
    return read_notice(json.dumps(stored), send_resolved=True)


def notice_data(*alerts: dict[str, Any]) -> Data:
    """What our templates see of these alerts."""
    return data_of(notice_of(list(alerts)))


def amtool_data(data: Data) -> str:
    """The same for `amtool template render --template.data`."""
    fields = data.fields()
    alerts = [
        {
            "status": alert["Status"],
            "labels": alert["Labels"],
            "annotations": alert["Annotations"],
            "startsAt": alert["StartsAt"].at.isoformat(),
            "endsAt": alert["EndsAt"].at.isoformat(),
            "generatorURL": alert["GeneratorURL"],
            "fingerprint": alert["Fingerprint"],
        }
        for alert in (one.fields() for one in fields["Alerts"])
    ]
    return json.dumps(
        {
            "receiver": fields["Receiver"],
            "status": fields["Status"],
            "alerts": alerts,
            "groupLabels": fields["GroupLabels"],
            "commonLabels": fields["CommonLabels"],
            "commonAnnotations": fields["CommonAnnotations"],
            "externalURL": fields["ExternalURL"],
        }
    )
