"""Audits the locked dependencies; says NOT AUDITED where the advisories cannot be reached.

pip-audit ends the same way for a finding and for no connection, so its source
is asked first. Usage: audit.py requirements/dev.txt
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

SOURCE = "https://pypi.org/pypi/{name}/{version}/json"


def main(lock: Path) -> int:
    """Return the exit code: 0 without findings or without a source, else that of pip-audit."""
    problem = unreachable(*first_pin(lock))
    if problem:
        sys.stdout.write(f"NOT AUDITED: the advisories of pypi.org cannot be reached ({problem})\n")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--strict", "--require-hashes", "--disable-pip", "-r", str(lock)]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - fixed arguments


def first_pin(lock: Path) -> tuple[str, str]:
    """The first package of the lock and its version."""
    found = re.search(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{lock} pins nothing: run `make lock`")
    return found[1], found[2]


def unreachable(name: str, version: str) -> str:
    """Why the advisories cannot be had, or nothing when they can."""
    try:
        with urlopen(SOURCE.format(name=name, version=version), timeout=20) as answer:  # noqa: S310 - https
            known = json.load(answer)
    except (URLError, TimeoutError, ValueError, ConnectionError) as error:
        return str(error)
    return "" if "vulnerabilities" in known else "the answer lists no vulnerabilities"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
