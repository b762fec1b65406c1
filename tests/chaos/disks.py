"""Small disks for services, so that a full one harms nobody else: ext4 on a file, mounted before the service starts."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from embedded.unit import Role

_SIZE: Final = "2560M"
_BALLAST: Final = "ballast"


class Disks:
    """The mounted disks, by role; none where this machine does not allow them."""

    def __init__(self) -> None:
        self._places: dict[Role, Path] = {}

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._places)

    @contextlib.contextmanager
    def mounted(self, data: Path, roles: Iterable[Role]) -> Iterator[None]:
        """Mount a disk as the folder of each role, and take them away at the end."""
        try:
            for role in roles:
                place, image = data / role.value, data.parent / f"{role.value}.img"
                place.mkdir(mode=0o700, parents=True)
                if not _mount(image, place):
                    place.rmdir()
                    break
                self._places[role] = place
            yield
        finally:
            for place in self._places.values():
                subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
            self._places.clear()

    @asynccontextmanager
    async def full(self, role: Role, spare: int = 0) -> AsyncIterator[None]:
        """Inside it the role's disk has not one byte left, or `spare` of them."""
        ballast = self._places[role] / _BALLAST
        try:
            _fill(ballast, spare)
            yield
        finally:
            ballast.unlink(missing_ok=True)


def _mount(image: Path, place: Path) -> bool:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    steps = (
        ["truncate", "-s", _SIZE, str(image)],
        ["mkfs.ext4", "-q", "-m", "0", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    )
    return all(subprocess.run(step, check=False, capture_output=True).returncode == 0 for step in steps)


def _fill(ballast: Path, spare: int) -> None:
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        step = _free(descriptor) - spare
        while step > 4096:
            try:
                os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, step)
            except OSError:
                step //= 2
            step = min(step, _free(descriptor) - spare)
    finally:
        os.close(descriptor)


def _free(descriptor: int) -> int:
    """Bytes that the disk of a file has left."""
    disk = os.fstatvfs(descriptor)
    return disk.f_bavail * disk.f_frsize
