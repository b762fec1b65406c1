"""Many regular expressions asked at once, by one automaton instead of one after the other."""

from collections.abc import Sequence
from typing import Any, Final

import re2

_MEMORY: Final = 64 << 20
_FEW: Final = 8
"""So many are asked one by one as quickly."""


class PatternSet:
    """Expressions that must match a whole value, known by their place; those of one label, usually."""

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MEMORY
        self._every = range(len(patterns))
        self._set: Any = re2.Set.FullMatchSet(options) if len(patterns) > _FEW else None
        if self._set is None:
            return
        try:
            for pattern in patterns:
                self._set.Add(pattern)
            self._set.Compile()
        except re2.error:
            self._set = None  # together they are too large: each is asked by itself then

    def matching(self, value: str) -> Sequence[int]:
        """Places of the expressions that may match the value: no other one does."""
        found: Sequence[int] | None = self._every if self._set is None else self._set.Match(value)
        return found or ()
