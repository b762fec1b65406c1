from datetime import UTC, datetime, timedelta

import pytest

from web.login_rate import WINDOW, keys_of, wait_of

NOW = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "failures", "seconds"),
    [
        ("both", 4, 0),
        ("both", 5, 1),
        ("both", 8, 8),
        ("both", 500, WINDOW.total_seconds()),
        ("account", 19, 0),
        ("account", 500, 30),
        ("address", 49, 0),
        ("address", 50, 1),
        ("address", 500, WINDOW.total_seconds()),
    ],
)
def test_each_failure_past_the_free_ones_doubles_the_wait(kind: str, failures: int, seconds: float) -> None:
    keys = keys_of("ada", "192.0.2.1")
    key = next(key for key in keys if key.startswith(kind))
    assert max(timedelta(0), wait_of(keys, {key: (failures, NOW)}, NOW)) == timedelta(seconds=seconds)
    over = NOW + timedelta(seconds=seconds)
    assert wait_of(keys, {key: (failures, NOW)}, over) <= timedelta(0)


def test_the_longest_wait_counts_and_names_are_not_kept() -> None:
    keys = keys_of("ada", "192.0.2.1")
    failures = {key: (count, NOW) for key, count in zip(keys, (6, 100, 0), strict=True)}
    assert wait_of(keys, failures, NOW) == timedelta(seconds=30)
    assert "ada" not in "".join(keys)
    assert not set(keys_of("bob", "192.0.2.9")) & set(keys)
