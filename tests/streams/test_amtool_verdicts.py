"""A rules file that amtool takes is taken, and one that it refuses is refused: what differs is named."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sinks import template_check
from streams.rules_config import ConfigError, load
from streams.rules_files import Disk

CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "verdicts.yml").read_text(encoding="utf-8")
)
GOOD: dict[str, Any] = {"route": {"receiver": "a"}, "receivers": [{"name": "a"}]}


def written(folder: Path, changes: dict[str, Any]) -> Path:
    (folder / "url").write_text("https://x.example.org")
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return file


def amtool_takes(program: str, file: Path) -> bool:
    done = subprocess.run([program, "check-config", file], capture_output=True, check=False, timeout=20)
    return done.returncode == 0


def refusal(file: Path) -> ConfigError | None:
    """Why we refuse it, None when we take it."""
    try:
        template_check.check(load(file.read_text(), files=Disk(file.parent)))
    except ConfigError as error:
        return error
    return None


def test_there_are_many_of_both_kinds(amtool: str, tmp_path: Path) -> None:
    taken = [amtool_takes(amtool, written(tmp_path, case)) for case in CASES["same"]]
    assert len(taken) >= 120
    assert min(taken.count(True), taken.count(False)) > 40


@pytest.mark.parametrize("case", CASES["same"], ids=str)
def test_amtool_and_we_say_the_same_and_it_takes_what_we_show(
    amtool: str, tmp_path: Path, case: dict[str, Any]
) -> None:
    file = written(tmp_path, case)
    refused = refusal(file)
    assert (refused is None) == amtool_takes(amtool, file), refused
    if refused is None:
        file.write_text(load(file.read_text()).original)
        assert amtool_takes(amtool, file)


@pytest.mark.parametrize("case", CASES["refused"], ids=str)
def test_what_only_we_refuse_is_named(amtool: str, tmp_path: Path, case: dict[str, Any]) -> None:
    file = written(tmp_path, case)
    refused = refusal(file)
    assert amtool_takes(amtool, file)
    assert refused is not None
    assert refused.line
    assert refused.field
    assert refused.remedy


@pytest.mark.parametrize("case", CASES["newer"], ids=str)
def test_what_came_after_this_amtool_is_taken(amtool: str, tmp_path: Path, case: dict[str, Any]) -> None:
    file = written(tmp_path, case)
    assert refusal(file) is None
    assert not amtool_takes(amtool, file)
