"""A log that is gone, or shorter than what was applied, is noticed; a broker that starts is given a moment."""

import pytest

from agents.log_watch import LOOKS, LogWatch, Owned, flaw_of

HERE = {"alerts": 4, "incident-inputs": 4}


@pytest.mark.parametrize(
    ("partitions_of", "owned", "words"),
    [
        (HERE, [], ""),
        (HERE, [Owned("alerts", 0, 9, 10), Owned("alerts", 1, -1, 0)], ""),
        (HERE, [Owned("alerts", 0, 9, None)], ""),
        ({"alerts": 4, "incident-inputs": 0}, [], "Kafka has no topic incident-inputs any more"),
        (HERE, [Owned("alerts", 1, 9, 12), Owned("alerts", 0, 9, 0)], "alerts/0: 9 was applied"),
        (HERE, [Owned("alerts", 0, 9, 9)], "Kafka's log ends at 9"),
    ],
    ids=["nothing owned", "all applied", "end not known", "no topic", "made anew", "one short"],
)
def test_a_look_says_what_is_missing(partitions_of: dict[str, int], owned: list[Owned], words: str) -> None:
    flaw = flaw_of(partitions_of, owned)
    assert (words in flaw) if words else (flaw == "")


def test_only_what_stays_so_counts() -> None:
    watch, gone = LogWatch(), {"alerts": 0}
    for _ in range(LOOKS - 1):
        assert watch.look(gone, []) == ""
    assert watch.look(HERE, []) == ""
    for _ in range(LOOKS - 1):
        assert watch.look(gone, []) == ""
    assert "alerts" in watch.look(gone, [])
