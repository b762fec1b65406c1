"""When records wait and nothing is done about them, for no reason that has a name."""

from typing import Final

PAUSE_SECONDS: Final = 5.0
"""Between two looks: a longer pause is the process' own, which was stopped or had no processor."""


class Standstill:
    """How long each topic has stood still, by looks at it in seconds of one clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._since: dict[str, float] = {}
        self._looked_at = now

    def look(self, now: float) -> None:
        """Begin a look at every topic."""
        if now - self._looked_at > PAUSE_SECONDS:
            self._since.clear()
        self._looked_at = now

    def idle(self, topic: str, *, behind: int, excused: bool, last_step_at: float) -> float:
        """Seconds since a step ended although records wait; 0 where none does, or where a reason is known."""
        if not behind or excused:
            self._since.pop(topic, None)
            return 0.0
        # The time before the first of them came was rest, not a standstill.
        return self._looked_at - max(last_step_at, self._since.setdefault(topic, self._looked_at))
