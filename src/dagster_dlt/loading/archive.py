"""An archive of one room: all that it takes to finish the packages in it, and nothing more."""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO, Final

#: What reading an archive raises that is cut off, or that no load has packed.
UNREADABLE: Final = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)

#: Name of the file in a room that says which archive the room was parked as.
MARKER: Final = ".parked"

# dlt's trace holds configuration in plain text, the id of an AWS key among it, and is a pickle:
# whoever may write into the bucket could run code with one. What drivers say in exceptions may be
# anything. A package is finished without them.
_LEFT_OUT: Final = ("trace.pickle", "*.exception", MARKER)


def content(room: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of each file of `room` that `pack` would write, by its name."""
    files = (path for path in room.rglob("*") if path.is_file() and not _left_out(path))
    return {
        path.relative_to(room).as_posix(): ((stat := path.stat()).st_size, stat.st_mtime_ns)
        for path in files
    }


def pack(room: Path, archive: Path) -> None:
    """Write the files of `room` into a new archive, which only its owner can read."""
    archive.touch(mode=0o600, exist_ok=False)
    # dlt has compressed the rows already.
    with tarfile.open(archive, "w:gz", compresslevel=1) as packing:
        for path in sorted(room.rglob("*")):
            if not _left_out(path):
                name = path.relative_to(room).as_posix()
                packing.add(path, name, recursive=False, filter=_without_owner)


def unpack(archive: Path, room: Path) -> None:
    """Write the files of an archive into the new folder `room`, which only its owner can read.

    An archive comes from where others may have written. So only plain files and folders are
    taken, and none outside of `room`: fewer than the `data` filter of `tarfile` lets through,
    which the first releases of Python 3.10 and 3.11 lack.

    Raises:
        tarfile.ReadError: something in it is not of the kind that `pack` writes.
    """
    room.mkdir(mode=0o700)
    root = room.resolve()
    with tarfile.open(archive, "r:gz") as packed:
        for member in packed:
            path = (root / member.name).resolve()
            plain = member.isfile() or member.isdir()
            if not plain or _left_out(path) or root not in path.parents:
                problem = f"{member.name!r} cannot be taken from a parked archive"
                raise tarfile.ReadError(problem)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = packed.extractfile(member)
            if content is None:
                path.mkdir(mode=0o700, exist_ok=True)
            else:
                with content, create(path) as file:
                    shutil.copyfileobj(content, file)


def create(path: Path) -> IO[bytes]:
    """Open a new file that only its owner can read; fails if there is one."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def _left_out(path: Path) -> bool:
    return any(path.match(pattern) for pattern in _LEFT_OUT)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() else None
