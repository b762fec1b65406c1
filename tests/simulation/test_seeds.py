"""Random lives of the pure core, each lived in several ways: nothing is lost or doubled, and all ways agree."""

import pytest

from tests.simulation.seeds.__main__ import told
from tests.simulation.seeds.judge import faults_of, shrunk
from tests.simulation.seeds.planted import PLANTED, Plant
from tests.simulation.seeds.pool import failures
from tests.simulation.seeds.script import script_of

SEEDS = 1_200
"""As many as a run of all tests has time for; `make simulate` takes 10,000."""
FOUND_WITHIN = 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_life_keeps_every_law() -> None:
    failing = next(failures(0, SEEDS), None)
    assert failing is None, told(*failing)


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found_soon(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(faults_of(script_of(seed)) for seed in range(FOUND_WITHIN))


def test_a_failing_script_is_shrunk_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED["nothing wakes a group"](monkeypatch)
    failing = next(script for seed in range(FOUND_WITHIN) if faults_of(script := script_of(seed)))
    least = shrunk(failing)
    assert faults_of(least)
    assert [act.what for act in least.acts] == ["fires"]
    assert "fires" in str(least)
