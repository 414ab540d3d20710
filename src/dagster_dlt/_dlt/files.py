"""The files of a dataset, where the destination has no SQL: on a disk or in an object store."""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from dlt.common.destination.client import JobClientBase
from dlt.common.destination.exceptions import DestinationException, DestinationTransientException
from dlt.common.schema import Schema
from dlt.destinations import filesystem
from dlt.destinations.impl.filesystem.filesystem import FILENAME_SEPARATOR, FilesystemClient
from dlt.pipeline.pipeline import Pipeline
from fsspec.implementations.local import (  # type: ignore[import-untyped] # has no annotations
    LocalFileSystem,
)
from typing_extensions import override

from dagster_dlt._dlt.destinations import client_of, see_clients
from dagster_dlt._dlt.stopping import pause

#: Where a file is seen whole or not at all, and listed as soon as it is there.
_OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "tos", "memory"}
)
#: Formats of tables that are files with a log of their own.
_OPEN: Final[tuple[Literal["delta", "iceberg"], ...]] = ("delta", "iceberg")
#: Times that a dataset is made where others make it at the same moment.
_TRIES: Final = 5
#: Files that are read at once.
_AT_ONCE: Final = 16


class WholeFiles(LocalFileSystem):  # type: ignore[misc] # fsspec has no annotations
    """Files of a disk, of whose text nobody sees half; and folders may be there already."""

    @override
    def write_text(self, path: str, value: str, **options: Any) -> None:
        with self._draft(path, value, **options) as (draft, target):
            os.replace(draft, target)  # noqa: PTH105 - as a file system does it

    def write_new(self, path: str, value: str) -> None:
        """Write a file where there is none.

        Raises:
            FileExistsError: there is one.
        """
        with self._draft(path, value) as (draft, target):
            os.link(draft, target)

    @contextmanager
    def _draft(self, path: str, value: str, **options: object) -> Iterator[tuple[Path, Path]]:
        target = Path(self._strip_protocol(path))
        # Not beside it: whoever lists that folder would read it. What is hidden dlt does not list.
        draft = target.parent.parent / f".{uuid4().hex}.part"
        try:
            super().write_text(str(draft), value, **options)
            yield draft, target
        finally:
            draft.unlink(missing_ok=True)

    @override
    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        super().makedirs(path, exist_ok=True)


def keep_notes(pipeline: Pipeline) -> None:
    """Let other loads find what dlt notes beside the tables of `pipeline`, and find it whole.

    It writes its notes in place. Loads that begin at the same moment read them, and take an empty
    note of the storage's version for one of an old dlt. And it removes the states of loads that
    began early, although they may have been committed last: see `FilesStored.old_states`.
    """
    if isinstance(pipeline.destination, filesystem):
        see_clients(pipeline, _keep_notes)


def _keep_notes(client: JobClientBase) -> None:
    if isinstance(client, FilesystemClient) and are_whole(client):
        client._cleanup_pipeline_states = _leave  # type: ignore[assignment]  # of this object
        _make_whole(client)
        _see_committed_states(client)


def _see_committed_states(client: FilesystemClient) -> None:
    """Let a client see no state of a load that is not committed.

    dlt stores the state before it notes the load, and restores the newest state that is there. One
    whose load died in between has cursors that stand behind rows which are taken back.
    """
    every, states = client._list_dlt_table_files, client.schema.state_table_name

    def committed(
        table_name: str, pipeline_name: str | None = None
    ) -> Iterator[tuple[str, list[str]]]:
        client.fs_client.invalidate_cache()
        found = every(table_name, pipeline_name)  # type: ignore[arg-type]  # by default None
        if table_name != states:
            yield from found
            return
        # The states first: what is committed meanwhile is not noted without its state.
        listed = [*found]
        loads = client.fs_client.glob(
            client.pathlib.join(client.get_table_dir(client.schema.loads_table_name), "*")
        )
        known = {Path(each).stem.rpartition(FILENAME_SEPARATOR)[2] for each in loads}
        yield from ((path, parts) for path, parts in listed if parts[1] in known)

    client._list_dlt_table_files = committed  # type: ignore[method-assign]  # of this object


def are_whole(client: FilesystemClient) -> bool:
    """Tell whether a file is seen whole, and by everyone.

    Not on a server for SFTP, and not in a repository, whose files come with commits.
    """
    return client.is_local_filesystem or client.config.protocol in _OBJECT_STORES


def _leave(_pipeline: str) -> None:
    pass


def _make_whole(client: FilesystemClient) -> None:
    if isinstance(client.fs_client, LocalFileSystem):
        client.fs_client = WholeFiles(**client.fs_client.storage_options)


class Files:
    """Small files that are kept beside the tables of a dataset."""

    def __init__(self, client: FilesystemClient) -> None:
        #: The one that reaches them.
        self.client = client
        self._there = False
        _make_whole(client)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the dataset."""
        with self._reached():
            self._fs.invalidate_cache()
            try:
                paths = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return [str(path).replace(os.sep, "/").rstrip("/").rpartition("/")[2] for path in paths]

    def read(self, folder: str, *names: str) -> dict[str, str]:
        """Return what is in some files of a folder, without those that are not there."""
        with self._reached():
            if len(names) < 2:  # noqa: PLR2004 - one needs no company
                texts = [self._read(folder, name) for name in names]
            else:
                with ThreadPoolExecutor(_AT_ONCE) as threads:
                    texts = [*threads.map(lambda name: self._read(folder, name), names)]
        return {name: text for name, text in zip(names, texts, strict=True) if text is not None}

    def _read(self, folder: str, name: str) -> str | None:
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._path(folder, name))).decode()
        return None

    def write(self, folder: str, name: str, text: str) -> None:
        """Write a file, and the dataset that it is in, if there is none."""
        client = self.client
        with self._reached():
            self._make_dataset()
            if client.is_local_filesystem:
                self._fs.makedirs(self._path(folder), exist_ok=True)
            self._fs.write_text(self._path(folder, name), text, encoding="utf-8")

    def decide(self, folder: str, name: str, text: str) -> str:
        """Write a file of a folder that is there, if nobody has written it; return what is in it.

        Of those who write at once all find the same: disks and object stores refuse the second.
        """
        path = self._path(folder, name)
        with self._reached():
            try:
                if self.client.is_local_filesystem:
                    self._fs.write_new(path, text)
                else:
                    self._fs.pipe_file(path, text.encode(), mode="create")
            except FileExistsError:
                self._fs.invalidate_cache()
                return bytes(self._fs.cat_file(path)).decode()
        return text

    def _make_dataset(self) -> None:
        """Make the dataset as dlt does, which takes it for one of an old dlt without its note."""
        for _ in range(_TRIES if not self._there else 0):
            with suppress(FileExistsError):  # another load makes it at this moment
                if not self.client.is_storage_initialized():
                    self.client.initialize_storage()
                self._there = True
                return
            pause(0.2)

    def remove(self, folder: str, name: str) -> None:
        """Remove a file, if it is there."""
        with self._reached(), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(folder, name))

    def committed(self, loads: Mapping[str, str]) -> dict[str, float]:
        """Return when dlt has noted loads as committed, if it has.

        Args:
            loads: The name of the schema by load.
        """
        folder = self.client.schema.loads_table_name
        names = {f"{name}{FILENAME_SEPARATOR}{each}.jsonl": each for each, name in loads.items()}
        return {
            names[name]: datetime.fromisoformat(json.loads(text)["inserted_at"]).timestamp()
            for name, text in self.read(folder, *names).items()
        }

    @property
    def _fs(self) -> Any:  # noqa: ANN401 - fsspec has no annotations
        return self.client.fs_client

    def _path(self, *names: str) -> str:
        return str(self.client.pathlib.join(self.client.dataset_path, *names))

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Let an error of the driver be one that dlt takes for an outage."""
        try:
            yield
        except (DestinationException, CancelledError):
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise DestinationTransientException(problem) from error


def files_of(pipeline: Pipeline, schema: Schema) -> Files | None:
    """Return the files of the dataset of `pipeline`, if files are what its destination keeps.

    Args:
        pipeline: The pipeline.
        schema: Schema of the source, whose naming tells how the dataset is called.
    """
    client = client_of(pipeline, schema)
    if not isinstance(client, FilesystemClient) or not are_whole(client):
        return None
    return Files(client)


def has_files(client: JobClientBase) -> bool:
    """Tell whether files are what the destination keeps."""
    return isinstance(client, FilesystemClient)


def table_format(client: JobClientBase, name: str) -> str | None:
    """Return the format of a table that is kept in files with a log of their own, if it is one."""
    if isinstance(client, FilesystemClient):
        return next((each for each in _OPEN if client.is_open_table(each, name)), None)
    return None
