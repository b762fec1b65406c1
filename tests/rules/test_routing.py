"""An alert takes the routes that Alertmanager would give it."""

import pytest

from agents.rules.routing import group_labels, routes_for
from streams.rules_config import load

CONFIG = load("""
route:
  receiver: root
  group_by: [alertname, service]
  routes:
    - receiver: audit
      matchers: [audit="yes"]
      continue: true
    - receiver: critical
      matchers: [severity="critical"]
      routes:
        - receiver: critical-api
          matchers: [service=~"api.*"]
          group_by: ['...']
        - receiver: critical-db
          matchers: [service="db"]
          continue: true
        - receiver: critical-eu
          matchers: [region="eu"]
    - receiver: warning
      matchers: [severity="warning"]
    - receiver: also-warning
      matchers: [severity="warning"]
receivers: [{name: root}, {name: audit}, {name: critical}, {name: critical-api}, {name: critical-db},
            {name: critical-eu}, {name: warning}, {name: also-warning}]
""")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({}, ["root"]),
        ({"severity": "info"}, ["root"]),
        ({"severity": "warning"}, ["warning"]),
        ({"severity": "critical"}, ["critical"]),
        ({"severity": "critical", "service": "api-1"}, ["critical-api"]),
        ({"severity": "critical", "service": "db"}, ["critical-db"]),
        ({"severity": "critical", "service": "db", "region": "eu"}, ["critical-db", "critical-eu"]),
        ({"audit": "yes"}, ["audit"]),
        ({"audit": "yes", "severity": "warning"}, ["audit", "warning"]),
    ],
)
def test_first_match_wins_unless_continue_and_a_parent_takes_what_its_children_decline(
    labels: dict[str, str], receivers: list[str]
) -> None:
    assert [route.receiver for route in routes_for(CONFIG.route, labels)] == receivers


def test_a_missing_group_label_counts_as_empty() -> None:
    assert group_labels(CONFIG.route, {"alertname": "Down", "x": "y"}) == {"alertname": "Down"}


def test_three_dots_group_by_every_label() -> None:
    labels = {"severity": "critical", "service": "api", "x": "y"}
    [route] = routes_for(CONFIG.route, labels)
    assert group_labels(route, labels) == labels
