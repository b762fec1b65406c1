"""What is released: one version everywhere, the same bytes again, and a bill of materials of what is locked."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def test_one_version_is_named_everywhere(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    version = release.project_version()
    assert list(release.disagreements(version)) == []
    assert len(list(release.disagreements("0.0.1"))) == 1 + len(release.NAMING)


def test_a_wheel_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = built(tmp_path / "a"), built(tmp_path / "b")
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    names = set(zipfile.ZipFile(first).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("streams", "agents", "sinks", "web", "embedded", "migrations", "loadtests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert sources <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_bill_names_what_is_locked_with_its_hashes(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = release.bill_of("1.2.3", release.LOCK, EPOCH)
    assert text == release.bill_of("1.2.3", release.LOCK, EPOCH)
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    locked = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / release.LOCK).read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {one["name"]: one["version"] for one in bill["components"]} == locked
    assert all(one["hashes"] for one in bill["components"])
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert any(name.startswith("faust-streaming==") for name in needs["llm-incident-manager"])
    assert any(
        name.startswith("aiokafka==") for ref, names in needs.items() for name in names if ref.startswith("faust")
    )
