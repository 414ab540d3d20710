"""What loads have sent where files are the destination: files of their own, and Delta tables."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from dlt.common.destination.client import JobClientBase
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.impl.filesystem.filesystem import FILENAME_SEPARATOR, FilesystemClient
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

_LOAD_ID: Final = "{load_id}"
T = TypeVar("T")


def tells_loads(client: JobClientBase) -> bool:
    """Tell whether the names of a dataset's files say which load they came with.

    They do where the layout has the load id, and something beside it by which it ends.
    """
    if not isinstance(client, FilesystemClient):
        return False
    _, found, rest = client.config.layout.partition(_LOAD_ID)
    return bool(found) and not re.match(r"[\d{]", rest)


class SentFiles:
    """Files of a dataset that loads have sent, told apart by their names.

    Args:
        client: Client of the destination.
        schema_name: Schema of the tables, which a layout may name.
    """

    def __init__(self, client: FilesystemClient, schema_name: str) -> None:
        self._client = client
        self._schema_name = schema_name

    def of(self, table: str, load_id: str) -> list[str]:
        """Return the files of one table that a load has sent, as far as their names say so."""
        client = self._client
        client.fs_client.invalidate_cache()
        try:
            files = client.list_table_files(table, schema_name=self._schema_name)
        except (DestinationUndefinedEntity, FileNotFoundError):
            return []
        if table == client.schema.state_table_name:
            # dlt writes these by a layout of its own, when a load is completed.
            own = re.compile(f".*{FILENAME_SEPARATOR}{re.escape(load_id)}{FILENAME_SEPARATOR}")
        elif tells_loads(client):
            own = re.compile(self._name_until_load_id(table, load_id))
        else:
            return []
        return [file for file in files if own.match(_slashed(file))]

    def _name_until_load_id(self, table: str, load_id: str) -> str:
        """Return a pattern for paths of a table's files, up to the load id in them."""
        client = self._client
        prefix = _slashed(client.get_table_prefix(table, schema_name=self._schema_name))
        between = client.config.layout.partition(_LOAD_ID)[0]
        between = between[len(client.table_prefix_layout) :]
        pattern = "".join(
            ".+?" if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{.*?\})", between)
        )
        return rf"{re.escape(prefix)}{pattern}{re.escape(load_id)}(?!\d)"

    def remove(self, files: Collection[str]) -> None:
        """Remove files, if they are there."""
        for each in files:
            self._client._delete_file(each)

    def lines(self, file: str) -> int:
        """Return how many rows a file has; none where only its format's reader could say so."""
        name = file.removesuffix(".gz")
        if name.endswith(".parquet"):
            from dlt.common.libs.pyarrow import pyarrow  # noqa: PLC0415 - is heavy

            with self._client.fs_client.open(file, "rb") as source:
                return int(pyarrow.parquet.ParquetFile(source).metadata.num_rows)
        with self._client.fs_client.open(file, "rb", compression="infer") as source:
            rows = sum(1 for _ in source)
        return max(0, rows - name.endswith(".csv"))


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


class DeltaTables:
    """The Delta tables of a dataset, by the names that a schema has for them.

    Args:
        client: Client of the destination.
        schema_name: Schema of the tables, which a layout may name.
    """

    def __init__(self, client: FilesystemClient, schema_name: str) -> None:
        self._client = client
        self._schema_name = schema_name

    def has(self, table: str) -> bool:
        """Tell whether a table is at the destination, and a Delta table."""
        log = self._client.get_table_prefix(table, schema_name=self._schema_name)
        fs = self._client.fs_client
        fs.invalidate_cache()
        return bool(fs.isdir(self._client.pathlib.join(log, "_delta_log")))

    def read(
        self,
        table: str,
        columns: Sequence[str],
        where: str | None = None,
        values: Collection[str] = (),
    ) -> list[tuple[Any, ...]]:
        """Return columns of all rows, or of those that have one of some values in a column."""
        from dlt.common.libs.pyarrow import pyarrow as pa  # noqa: PLC0415 - is heavy

        wanted = pa.array(sorted(values), pa.string())
        found: list[tuple[Any, ...]] = []
        read = list(dict.fromkeys([*columns, *([where] if where else [])]))
        # Not by a filter of the dataset: it compares texts with the statistics of files as views
        # of texts, and fails.
        for batch in self.open(table).to_pyarrow_dataset().to_batches(columns=read):
            if where:
                told = batch[where].cast(pa.string())
                meant = batch.filter(pa.compute.is_in(told, value_set=wanted))
            else:
                meant = batch
            found += zip(*(meant[column].to_pylist() for column in columns), strict=True)
        return found

    def delete(self, table: str, column: str, values: Collection[str]) -> int:
        """Delete the rows that have one of some values in a column; return how many."""
        from dlt.common.libs.pyarrow import pyarrow as pa  # noqa: PLC0415 - is heavy

        given = pa.table({"value": pa.array(sorted(values), pa.string())})

        def delete() -> int:
            # Whether it is many values or one: nobody knows how long a predicate may be.
            merge = self.open(table).merge(
                given, f'target."{column}" = source.value', "source", "target"
            )
            return int(merge.when_matched_delete().execute()["num_target_rows_deleted"])

        return _again_on_conflicts(delete) if values else 0

    def open(self, table: str) -> Any:  # noqa: ANN401 - deltalake may not be installed
        """Open a table as it is now."""
        from dlt.common.libs.deltalake import (  # noqa: PLC0415 - may not be installed
            DeltaTable,
            deltalake_storage_options,
        )

        config = self._client.config
        options = deltalake_storage_options(config.credentials, config.deltalake_storage_options)
        location = self._client.get_open_table_location("delta", table, self._schema_name)
        return DeltaTable(location, storage_options=options)


def _again_on_conflicts(write: Callable[[], T]) -> T:
    """Write once more where another writer has changed the same files of a table meanwhile."""
    from deltalake.exceptions import CommitFailedError  # noqa: PLC0415 - may not be installed

    tries = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, CommitFailedError)),
        stop=stop_after_attempt(8),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )
    return tries(write)
