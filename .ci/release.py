"""Builds what is released into dist/: wheel, source archive, bill of materials (CycloneDX), checksums.

The version is that of pyproject.toml; the changelog and every image that is named must agree with it. Times come
from the last commit (SOURCE_DATE_EPOCH), so the same commit gives the same bytes.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DIST = Path("dist")
LOCK = Path("requirements/runtime.txt")
NAMING = ("docker-compose.yml", "deploy/kubernetes/kustomization.yaml")
_PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;\\]+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]+(?: \\)?\n?)+)", re.MULTILINE
)


def main() -> int:
    """Build everything; the exit code."""
    version = project_version()
    if problems := list(disagreements(version)):
        sys.stderr.write("\n".join(problems) + "\n")
        return 1
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    epoch = committed_at()
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(DIST), "-t", "wheel", "-t", "sdist"]
    subprocess.run(command, check=True, env=environ)  # noqa: S603 - fixed arguments
    (DIST / f"llm-incident-manager-{version}.cdx.json").write_text(bill_of(version, LOCK, epoch), encoding="utf-8")
    made = sorted(path for path in DIST.iterdir() if path.name != ".gitignore")
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (DIST / "SHA256SUMS").write_text(sums, encoding="utf-8")
    sys.stdout.write(sums)
    return 0


def project_version() -> str:
    """The one place that says it."""
    version: str = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def disagreements(version: str) -> Iterator[str]:
    """What names another version."""
    newest = re.search(r"^## (\S+)", Path("CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if newest is None or newest[1] != version:
        yield f"CHANGELOG.md begins with {newest[1] if newest else 'nothing'}, not {version}"
    for name in NAMING:
        text = Path(name).read_text(encoding="utf-8")
        named = set(re.findall(r"llm-incident-manager:(\d[\w.]*)|newTag: ['\"]?([\w.]+)", text))
        if {one or other for one, other in named} != {version}:
            yield f"{name} names {sorted(one or other for one, other in named)}, not {version}"


def committed_at() -> int:
    """Unix seconds of the last commit, or what SOURCE_DATE_EPOCH says; without either, 1980, as in zip files."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    found = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)  # noqa: S607 - the checkout's own git
    return int(found.stdout) if found.returncode == 0 and found.stdout.strip() else 315_532_800


def bill_of(version: str, lock: Path, epoch: int) -> str:
    """The bill of materials of what a production image installs, as CycloneDX JSON."""
    text = lock.read_text(encoding="utf-8")
    root = Component(
        name="llm-incident-manager", version=version, type=ComponentType.APPLICATION,
        purl=PackageURL("pypi", name="llm-incident-manager", version=version), bom_ref="llm-incident-manager",
    )  # fmt: skip
    parts = {str(canonicalize_name(name)): _component(name, pin, hashes) for name, pin, hashes in _PIN.findall(text)}
    bom = Bom(components=parts.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"{version}\n{text}"))
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.register_dependency(root, [parts[name] for name in _direct() if name in parts])
    for name, part in parts.items():
        bom.register_dependency(part, [parts[other] for other in _needs(name) if other in parts])
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)) + "\n"


def _component(name: str, version: str, hashes: str) -> Component:
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", name=str(canonicalize_name(name)), version=version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in re.findall(r"[0-9a-f]{64}", hashes)],
    )  # fmt: skip


def _direct() -> list[str]:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted({str(canonicalize_name(Requirement(item).name)) for item in project["dependencies"]})


def _needs(name: str) -> list[str]:
    """What a package needs itself, where it is installed here."""
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    wanted = (Requirement(item) for item in required)
    return sorted({str(canonicalize_name(one.name)) for one in wanted if "extra" not in str(one.marker)})


if __name__ == "__main__":
    sys.exit(main())
