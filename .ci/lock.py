"""Writes requirements/*.txt: every package with its hashes, for Python 3.11 and later.

No index address and no machine's path goes into them. `dev.txt` holds
everything; `runtime.txt` and `build.txt`, for images, have the same versions.
"""

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

HEADER = "# Written by `make lock` from pyproject.toml; {purpose}.\n"
DEV = Path("requirements/dev.txt")
RUNTIME = Path("requirements/runtime.txt")
BUILD = Path("requirements/build.txt")


def main() -> None:
    """Resolve all files; versions that still fit are kept unless UPGRADE=1."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    extras = [f"--extra={name}" for name in project["project"]["optional-dependencies"]]
    compile_lock(DEV, "what the checkout uses", ["pyproject.toml", *extras])
    same = f"--constraint={DEV}"
    compile_lock(RUNTIME, "what a production image needs", ["pyproject.toml", same])
    compile_lock(BUILD, "what builds the wheel", ["-", same], "\n".join(project["build-system"]["requires"]))


def compile_lock(target: Path, purpose: str, sources: list[str], text: str = "") -> None:
    """Write one file from `sources`; the source `-` is `text`."""
    target.parent.mkdir(exist_ok=True)
    uv = Path(sysconfig.get_path("scripts"), "uv")
    command = [
        str(uv), "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-config",
        f"--output-file={target}", *(["--upgrade"] if os.environ.get("UPGRADE") else []), *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True, text=True, input=text)  # noqa: S603 - fixed arguments
    body = "".join(line for line in target.read_text(encoding="utf-8").splitlines(keepends=True) if line[0] != "#")
    target.write_text(HEADER.format(purpose=purpose) + body, encoding="utf-8")
    sys.stdout.write(f"{target}: {body.count('==')} packages\n")


if __name__ == "__main__":
    main()
