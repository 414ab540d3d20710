"""Which machine this is, and which loads are alive on it."""

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from dagster_dlt.loading.lock import acquire


def machine() -> str:
    """Return what tells this machine from others: a word in its directory of temporary files.

    Processes that share the directory see each other's locks, and no others do: a container with
    a directory of its own is a machine of its own.
    """
    path = _home() / "machine"
    if not path.exists():
        draft = path.with_name(uuid4().hex)
        draft.write_text(draft.name, encoding="utf-8")
        with suppress(OSError):  # another process was faster
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class SignOfLife:
    """A lock that a load holds while it lives; the system releases it with the process."""

    path: Path

    @contextmanager
    def given(self, *, wait: bool = True) -> Iterator[FileLock]:
        """Hold the lock, and remove its file in the end.

        Raises:
            filelock.Timeout: another process holds it, which is not to be waited for.
        """
        lock = FileLock(self.path, mode=0o600, thread_local=False)
        if wait:
            acquire(lock)
        else:
            lock.acquire(timeout=0)
        try:
            yield lock
        finally:
            # While it is held: whoever waits for it sees that the file is gone.
            with suppress(OSError):
                self.path.unlink()
            lock.release()

    def is_given(self) -> bool:
        """Tell whether a process of this machine holds the lock."""
        try:
            with self.given(wait=False):
                return False
        except Timeout:
            return True


def sign_of_life(load_id: str) -> SignOfLife:
    """Return the sign of life of a load."""
    return SignOfLife(_home() / f"{load_id}.lock")


def _home() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    path = Path(tempfile.gettempdir()) / f"dagster-dlt-{user}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
