"""The place behind a URL where rooms are parked, so that another machine can finish them."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import fsspec  # type: ignore[import-untyped] # fsspec has no annotations
from fsspec.core import url_to_fs  # type: ignore[import-untyped] # as above
from fsspec.implementations.local import (  # type: ignore[import-untyped] # as above
    LocalFileSystem,
)
from fsspec.utils import get_protocol  # type: ignore[import-untyped] # as above

from dagster_dlt.errors import ParkingError, WorkspaceProtocolError
from dagster_dlt.loading.archive import create
from dagster_dlt.loading.owner import Owner
from dagster_dlt.loading.parked import Parked, Piece
from dagster_dlt.loading.workspace import Scope

# Here an upload is seen whole or not at all. Folders need not be made, and making one may create
# a bucket.
_OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "tos"}
)


@dataclass(frozen=True)
class Parking:
    """A place behind an fsspec URL, with the objects of all pipelines in it.

    Credentials and options come from the environment and from fsspec's own configuration.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> "Parking":
        """Return the place behind `url`; opens no connection.

        Raises:
            WorkspaceProtocolError: the filesystem of the URL is unknown, or not installed.
        """
        protocol = get_protocol(url)
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            known = fsspec.available_protocols()
            raise WorkspaceProtocolError(protocol, str(error), known) from error
        return cls(url)

    @property
    def shown(self) -> str:
        """The URL without user, password and query."""
        without_user = re.sub(r"://.*@", "://", self.url)
        return re.split(r"[?#]", without_user, maxsplit=1)[0].rstrip("/")

    def told(self, error: BaseException) -> str:
        """Return the text of `error` without what the URL must not tell."""
        text = f"{type(error).__name__}: {error}"
        user = re.search(r"://(.*)@", self.url)
        query = re.search(r"[?#](.*)", self.url)
        password = user[1].partition(":")[2] if user else ""
        for secret in (self.url, user and user[1], password, unquote(password), query and query[1]):
            text = text.replace(secret, "***") if secret else text
        return text.rstrip(".")

    def objects(self, pipeline: str) -> list[Piece]:
        """Return the objects of a pipeline."""
        self._fs.invalidate_cache()
        try:
            paths = self._fs.ls(self._path(pipeline), detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return [found for name in names if (found := Piece.of(name))]

    def archives(self, scope: Scope) -> list[str]:
        """Return the names of the archives of a scope; takes none.

        Raises:
            ParkingError: the place cannot be read.
        """
        try:
            found = self.objects(scope.pipeline)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            problem = f"cannot be read ({self.told(error)})"
            remedy = "Check the URL, and the credentials in the environment"
            raise ParkingError(self.shown, problem, remedy) from None
        return [each.name for each in found if (each.scope, each.kind) == (scope.folder, "tar.gz")]

    def take(self, pipeline: str, parked: Parked, owner: Owner) -> Parked | None:
        """Become the owner of a parked room; return None if another load was faster.

        What was written is read again: the answer to a request that succeeded may be lost, and
        not every filesystem can refuse to write over what is there.
        """
        name = f"{parked.ticket}-{parked.number + 1}.owner"
        path = self._path(pipeline, name)
        try:
            self._create(path, owner.alive().text)
        except OSError:
            if self._read(path) is None:
                raise
        mark = Piece(name, parked.ticket, "", "", parked.number + 1, "owner")
        found = self.owner(pipeline, mark)
        if found is None or found.load_id != owner.load_id:
            return None
        return replace(parked, objects=(*parked.objects, mark))

    def owner(self, pipeline: str, mark: Piece) -> Owner | None:
        """Return what the owner wrote, or None if it is just writing it."""
        return Owner.of(self._read(self._path(pipeline, mark.name)) or b"")

    def renew(self, pipeline: str, mark: Piece, owner: Owner) -> None:
        """Show that an owner lives; not if its room was taken from it, and finished."""
        path = self._path(pipeline, mark.name)
        if self._read(path) is None:
            return
        if isinstance(self._fs, LocalFileSystem):
            draft = Path(path).with_suffix(".part")
            draft.unlink(missing_ok=True)
            self._create(str(draft), owner.alive().text)
            draft.replace(path)
        else:
            self._fs.pipe_file(path, owner.alive().text)

    def upload(self, pipeline: str, archive: Path, name: str) -> str:
        """Put an archive where nobody sees half of it; return its URL."""
        path = self._path(pipeline, name)
        if _OBJECT_STORES.intersection(_protocols(self._fs)):
            self._fs.put_file(str(archive), path)
        else:
            self._make_folder(pipeline)
            part = f"{path.removesuffix('.tar.gz')}.part"
            if isinstance(self._fs, LocalFileSystem):
                Path(part).touch(mode=0o600)
            self._fs.put_file(str(archive), part)
            self._fs.mv(part, path)
        return self.url_of(pipeline, name)

    def url_of(self, pipeline: str, name: str) -> str:
        """Return where an object is, without the secrets of the URL."""
        return f"{self.shown}/{pipeline}/{name}"

    def download(self, pipeline: str, name: str, archive: Path) -> None:
        """Fetch an archive into a new file."""
        archive.touch(mode=0o600, exist_ok=False)
        self._fs.get_file(self._path(pipeline, name), str(archive))

    def remove(self, pipeline: str, objects: Iterable[Piece]) -> None:
        """Remove objects: owners last, since an archive without one is free to be taken."""
        for each in sorted(objects, key=lambda each: each.kind == "owner"):
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(pipeline, each.name))

    def _read(self, path: str) -> bytes | None:
        # Reading too asks the listing that a filesystem remembers whether there is a file.
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(path))
        return None

    def _create(self, path: str, content: bytes) -> None:
        if isinstance(self._fs, LocalFileSystem):
            with create(Path(path)) as file:
                file.write(content)
        else:
            self._fs.pipe_file(path, content, mode="create")

    def _make_folder(self, pipeline: str) -> None:
        path = self._path(pipeline)
        if isinstance(self._fs, LocalFileSystem):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            self._fs.makedirs(path, exist_ok=True)

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @cached_property
    def _fs(self) -> Any:  # noqa: ANN401 - fsspec has no annotations
        return url_to_fs(self.url)[0]

    @cached_property
    def _root(self) -> str:
        return str(url_to_fs(self.url)[1]).rstrip("/")


def _protocols(fs: Any) -> tuple[str, ...]:  # noqa: ANN401 - fsspec has no annotations
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
