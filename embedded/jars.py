"""The jars of Apache Kafka: resolved once by Maven from the pom beside this file, then kept in the cache folder."""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess  # nosec B404
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from embedded.account import cache_folder, publish
from embedded.errors import EmbeddedError, StartError
from embedded.process import Command, run_once

OLDEST_JAVA: Final = 17
_RESOLVE_WITHIN: Final = 300.0  # seconds; a slow line downloads about 90 MB


async def kafka_jars(logs: Path) -> Path:
    """The folder that holds the jars.

    Raises:
        EmbeddedError: Java or Maven is missing or too old, or the pom does not resolve.
    """
    await asyncio.to_thread(_check_java)
    pom = files("embedded").joinpath("pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)", pom)
    digest = hashlib.sha256(pom.encode()).hexdigest()[:12]
    final = cache_folder() / f"kafka-{version[1] if version else 'jars'}-{digest}"
    if final.exists():
        return final
    if (maven := shutil.which("mvn")) is None:
        raise EmbeddedError("mvn is not on the PATH (apt-get install maven)")
    fresh = Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=final.parent))
    try:
        await _resolve(maven, pom, fresh, logs / "maven.log")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.chmod(0o755)
    publish(fresh, final)
    return final


async def _resolve(maven: str, pom: str, target: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="incidents-maven-") as work:
        Path(work, "pom.xml").write_text(pom)
        argv = [
            maven, "--batch-mode", "--quiet", "dependency:copy-dependencies",
            "-DincludeScope=runtime", f"-DoutputDirectory={target}",
        ]  # fmt: skip
        command = Command(argv=argv, cwd=Path(work), env=os.environ, log=log)
        try:
            code = await run_once(command, within=_RESOLVE_WITHIN)
        except TimeoutError as error:
            raise StartError(f"mvn did not resolve Kafka's jars within {_RESOLVE_WITHIN:.0f} s", log) from error
    if code != 0 or not any(target.glob("kafka_*.jar")):
        raise StartError(f"mvn could not resolve Kafka's jars (exit code {code})", log)


def _check_java() -> None:
    if (java := shutil.which("java")) is None:
        raise EmbeddedError("java is not on the PATH (apt-get install default-jre-headless)")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 # nosec B603
    found = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise EmbeddedError(f"java is older than {OLDEST_JAVA}")
