"""A few random scripts, played by the real Alertmanager and by us."""

from pathlib import Path

import pytest

from tests.differential import simulated
from tests.differential.calm import Logs, played
from tests.differential.compare import compare
from tests.differential.explain import explain
from tests.differential.scripts import Script, script

pytestmark = [pytest.mark.alertmanager, pytest.mark.slow, pytest.mark.timeout(300)]

PLAIN = [script(seed) for seed in range(1000, 1040)]
RELOADED = [script(seed, reloads=True) for seed in range(1000, 1015)]


@pytest.mark.parametrize("scripts", [PLAIN, RELOADED], ids=["plain", "with a reload"])
async def test_in_its_mode_we_say_what_it_says_and_else_only_what_a_rule_accounts_for(
    tmp_path: Path, scripts: list[Script], amtool: str
) -> None:
    theirs = await played(tmp_path, scripts, lambda logs: not any(_unlike(logs, one) for one in scripts))
    assert sum(map(len, theirs.values())) > 2 * len(scripts)
    for one in scripts:
        unlike = _unlike(theirs, one)
        assert not unlike, f"{one.name}:\n" + "\n".join(unlike)


def _unlike(theirs: Logs, one: Script) -> list[str]:
    """Every difference in its mode, and those without it that no rule accounts for."""
    strict = simulated.told([one], strict=True)[one.name]
    ours, ends = simulated.play([one], strict=False)
    found = explain(theirs[one.name], ours[one.name], one, ends)
    return [
        *map(str, compare(theirs[one.name], strict)),
        *(str(item.difference) for item in found if not item.tag),
    ]


def test_a_script_is_the_same_for_the_same_seed_and_nothing_happens_on_a_flush() -> None:
    assert script(5) == script(5)
    assert script(5) != script(6)
    for seed in range(200):
        for one in (script(seed), script(seed, reloads=True)):
            shift = 0.3 if one.reloads else 0
            for action in one.actions:
                moved = shift if action.at > 10 else 0
                assert action.at == 0 or abs((action.at - moved) % 2 - 1) < 1e-6


def test_a_difference_that_no_rule_accounts_for_is_not_explained_away() -> None:
    one = script(1001)
    ours, ends = simulated.play([one], strict=False)
    strict = simulated.told([one], strict=True)[one.name]
    missing = explain(strict, ours[one.name][1:], one, ends)
    assert any(not item.tag for item in missing)
    late = explain(strict, [*ours[one.name], ours[one.name][0]], one, ends)
    assert any(not item.tag for item in late)
