"""Runs several things at once, and fails as the first that failed."""

import asyncio
from collections.abc import Coroutine, Iterable

from embedded.errors import EmbeddedError


async def together(work: Iterable[Coroutine[object, object, object]]) -> None:
    """Do all of it; when one fails the others are cancelled and its own exception is raised, not a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failed:
        leaves = list(_leaves(failed))
        raise next((leaf for leaf in leaves if isinstance(leaf, EmbeddedError)), leaves[0]) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
