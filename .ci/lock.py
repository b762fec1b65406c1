"""Writes requirements/*.txt: every package with its hashes, for Python 3.11 and later.

No index address and no machine's path goes into them. `dev.txt` holds
everything; `runtime.txt`, for images, is the same versions without the extras.
"""

import os
import subprocess  # nosec B404 - starts uv with fixed arguments
import sys
import sysconfig
from pathlib import Path

HEADER = "# Written by `make lock` from pyproject.toml; {purpose}.\n"
DEV = Path("requirements/dev.txt")
RUNTIME = Path("requirements/runtime.txt")


def main() -> None:
    """Resolve both files; versions that still fit are kept unless UPGRADE=1."""
    compile_lock(DEV, "what the checkout uses", "--extra=embedded", "--extra=load", "--extra=dev")
    compile_lock(RUNTIME, "what a production image needs", f"--constraint={DEV}")


def compile_lock(target: Path, purpose: str, *options: str) -> None:
    """Write one file."""
    target.parent.mkdir(exist_ok=True)
    uv = Path(sysconfig.get_path("scripts"), "uv")
    command = [
        str(uv), "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-config",
        f"--output-file={target}", *(["--upgrade"] if os.environ.get("UPGRADE") else []), *options, "pyproject.toml",
    ]  # fmt: skip
    subprocess.run(command, check=True)  # noqa: S603  # nosec B603 - fixed arguments
    body = "".join(line for line in target.read_text(encoding="utf-8").splitlines(keepends=True) if line[0] != "#")
    target.write_text(HEADER.format(purpose=purpose) + body, encoding="utf-8")
    sys.stdout.write(f"{target}: {body.count('==')} packages\n")


if __name__ == "__main__":
    main()
