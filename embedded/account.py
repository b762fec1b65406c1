"""Who the servers run as, and how they reach their files without any permission being changed outside the data folder.

As root, servers run as `nobody`. Their state may lie below a folder that this
user cannot enter, so each is started inside its own folder and names it
`/proc/self/cwd`; programs that lie out of reach are copied to a cache folder.
"""

import os
import pwd
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.errors import EmbeddedError

HERE: Final = "/proc/self/cwd"
CACHE_NAME: Final = "llm-incident-manager"


@dataclass(frozen=True)
class Account:
    """An unprivileged user, by number."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """The user for the servers, or None when we are not root and they run as we do."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def home_for(folder: Path, account: Account | None) -> Path:
    """Make a server's own folder inside the data folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hand_over(folder, account)
    return folder


def hand_over(path: Path, account: Account | None) -> None:
    """Give a path and what lies below it to the server's user."""
    if account is None:
        return
    os.chown(path, account.uid, account.gid, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for entry in os.scandir(path):
            status = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False) or status.st_uid != account.uid:
                hand_over(Path(entry.path), account)


def write_owned(path: Path, text: str, account: Account | None) -> None:
    """Write a file that only the server's user can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)


def can_enter(path: Path, account: Account) -> bool:
    """Whether the account may read and traverse everything on the way to a path."""
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        status = folder.stat()
        shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
        needed = 0o5 if folder == resolved else 0o1
        if (status.st_mode >> shift) & needed != needed:
            return False
    return True


def cache_folder() -> Path:
    """Where programs and jars are kept between runs: ours alone to write, open for the servers to read."""
    if os.geteuid() == 0:
        places = [Path("/var/cache") / CACHE_NAME]
    else:
        places = [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / CACHE_NAME]
    places.append(Path(tempfile.gettempdir()) / f"{CACHE_NAME}-{os.geteuid()}")
    for place in places:
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError:
            continue
        status = place.lstat()
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022 and os.access(place, os.W_OK):
            return place
    raise EmbeddedError(
        f"no folder to keep programs in: tried {', '.join(map(str, places))}; make one of them writable for you alone"
    )


def in_reach(root: Path, parts: Sequence[str], key: str, account: Account | None) -> Path:
    """A folder that holds `parts` of `root` where the account can use them: `root` itself or a copy named `key`."""
    if account is None or all(can_enter(root / part, account) for part in parts):
        return root
    copy = cache_folder() / key
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=copy.parent))
        for part in parts:
            source, target = root / part, fresh / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
            else:
                shutil.copy2(source, target)
        fresh.chmod(0o755)
        publish(fresh, copy)
    return copy


def publish(fresh: Path, final: Path) -> None:
    """Move a finished folder to its name; when another run was first, keep that one."""
    try:
        fresh.rename(final)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not final.exists():
            raise
