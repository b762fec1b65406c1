"""Passwords judged beside the event loop, a few at a time: each takes a core for a moment and 64 MiB."""

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Final, TypeVar

from streams.credentials import hash_password, is_password, new_password
from web.problems import PartAwayError

T = TypeVar("T")
_AT_ONCE: Final = 2
_WAITING: Final = 16


class Passwords:
    """Hashes and compares."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def is_good(self, kept: str | None, password: str) -> bool:
        """Whether it is the one that was kept; None, for nobody's, takes as long as any other.

        Raises:
            PartAwayError: too many are judged already.
        """
        found = await self._in_turn(lambda: is_password(kept or self._nobodys, password))
        return found and kept is not None

    async def kept(self, password: str) -> str:
        """What is kept of a password.

        Raises:
            PartAwayError: too many are judged already.
        """
        return await self._in_turn(lambda: hash_password(password))

    @cached_property
    def _nobodys(self) -> str:
        return hash_password(new_password())

    async def warm(self) -> None:
        """Make what nobody's password is compared with, so that not even the first try tells who exists."""
        await asyncio.to_thread(lambda: self._nobodys)

    async def _in_turn(self, job: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise PartAwayError("too many are signing in; try again")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(job)
        finally:
            self._waiting -= 1
