"""What receivers got: one batch for each notice, with times as seconds of the script."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

ZERO: Final = "0001-01-01T00:00:00Z"

Shown = tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], float, float | None]
"""Status, labels, annotations, start and end of one alert."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One notice: `target` is RECEIVER/INDEX."""

    at: float
    target: str
    group: tuple[tuple[str, str], ...]
    group_key: str
    status: str
    common: tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
    alerts: tuple[Shown, ...]
    flapping: int = 0

    @property
    def said(self) -> tuple[object, ...]:
        """Everything but times, which are compared with a tolerance."""
        return (
            self.target, self.group, self.group_key, self.status, self.common,
            tuple((status, labels, annotations) for status, labels, annotations, _, _ in self.alerts),
        )  # fmt: skip


def batch_of(body: dict[str, Any], target: str, at: float, began: datetime) -> Batch:
    """Read one webhook body (version 4)."""
    return Batch(
        at=at,
        target=target,
        group=_pairs(body["groupLabels"]),
        group_key=body["groupKey"],
        status=body["status"],
        common=(_pairs(body["commonLabels"]), _pairs(body["commonAnnotations"])),
        alerts=tuple(_shown(alert, began) for alert in body["alerts"]),
        flapping=sum(alert.get("flapping", 0) for alert in body["alerts"]),
    )


def _shown(alert: dict[str, Any], began: datetime) -> Shown:
    starts = _seconds(alert["startsAt"], began)
    ends = None if alert["endsAt"] == ZERO else _seconds(alert["endsAt"], began)
    return alert["status"], _pairs(alert["labels"]), _pairs(alert["annotations"]), starts, ends


def _seconds(text: str, began: datetime) -> float:
    return (datetime.fromisoformat(text).astimezone(UTC) - began).total_seconds()


def _pairs(mapping: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mapping.items()))
