"""Runs the tests: most of them side by side, those that need a whole system to themselves afterwards.

With arguments, pytest runs with those alone. Without, what failed is run once more by itself: a test that passes
then is named as unsteady, and does not fail the run; more than a few of them do.
"""

import json
import subprocess
import sys
from pathlib import Path

SYSTEMS = ("tests/flow", "tests/chaos", "tests/differential")
"""Each of these starts whole systems, and watches what they do in time."""
SIDE_BY_SIDE = 3
SYSTEMS_AT_ONCE = 2
STEADY = 5
"""More failures than these are not run again."""
FAILED = Path(".pytest_cache/v/cache/lastfailed")
TESTS_FAILED = 1


def main(arguments: list[str]) -> int:
    """The exit code of the whole."""
    if arguments:
        return pytest(*arguments)
    FAILED.unlink(missing_ok=True)
    others = [f"--ignore={folder}" for folder in SYSTEMS]
    codes = {
        pytest(f"-n{SIDE_BY_SIDE}", "--dist=loadfile", "--durations=25", *others, "tests"),
        pytest(f"-n{SYSTEMS_AT_ONCE}", "--dist=loadfile", "--durations=25", *SYSTEMS),
    }
    failed = list(json.loads(FAILED.read_text(encoding="utf-8"))) if FAILED.exists() else []
    if codes != {0} and (not codes <= {0, TESTS_FAILED} or not 0 < len(failed) <= STEADY):
        return max(codes)
    if failed:
        sys.stdout.write(f"\n{len(failed)} failed and run once more, by themselves:\n")
        if code := pytest("--last-failed", "--last-failed-no-failures=none"):
            return code
        sys.stdout.write("UNSTEADY: failed among the others, passed by themselves:\n")
        sys.stdout.writelines(f"  {name}\n" for name in failed)
    return 0


def pytest(*arguments: str) -> int:
    """Run pytest, and say how it ended."""
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode  # noqa: S603 - our own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
