"""How often a process looks for objects that only cycles hold."""

import gc
from typing import Final

GARBAGE_AFTER: Final = 10_000
"""Objects that are left over before the youngest are looked through: more of them are a longer pause."""


def collect_seldom() -> None:
    """Records come and go by the thousand and hold no cycles: looking for some that often only costs pauses."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 20, 50)
