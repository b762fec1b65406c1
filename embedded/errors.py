"""What can go wrong when a machine is asked to run the whole system by itself."""

from pathlib import Path


class EmbeddedError(Exception):
    """Something that is needed cannot be had or started; the message says the remedy."""


class StartError(EmbeddedError):
    """A process ended or did not answer in time; the message names its log and ends with its last lines."""

    def __init__(self, what: str, log: Path) -> None:
        self.log = log
        tail = last_lines(log)
        super().__init__(f"{what}; see {log}" + (f"\n{tail}" if tail else ""))


class EndedEarlyError(StartError):
    """A process ended before it ever answered."""


def last_lines(log: Path, count: int = 8, window: int = 8192) -> str:
    """The end of a log file, or nothing when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - window))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:])
