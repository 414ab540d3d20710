"""`filesystem:`, dlt's source for files in a folder or a bucket: a table for each kind of file."""

from typing import Any, Final, Literal

import dlt
from dlt.extract import DltSource
from pydantic import Field, model_validator
from typing_extensions import Self

from dagster_dlt.components.dlt_load_collection.inline.form import Form, require
from dagster_dlt.components.dlt_load_collection.inline.hints import HintsForm

#: What a reader, or a bucket, needs that dlt does not bring.
_PACKAGES: Final = {"csv": "pandas", "csv_duckdb": "duckdb", "parquet": "pyarrow"}
_BUCKETS: Final = {
    "s3": ("s3fs", "dagster-dlt[filesystem]"),
    "gs": ("gcsfs", "dlt[gs]"),
    "gcs": ("gcsfs", "dlt[gs]"),
    "az": ("adlfs", "dlt[az]"),
    "abfss": ("adlfs", "dlt[az]"),
}


class FileTableForm(HintsForm):
    """The files that become one table."""

    name: str = Field(
        description="Name of the dlt resource, and of the table.", examples=["orders"]
    )
    file_glob: str = Field(
        description="Which files, below bucket_url.", examples=["orders/**/*.jsonl"]
    )
    reader: Literal["jsonl", "csv", "csv_duckdb", "parquet"] = Field(
        description="What reads the files."
    )
    reader_kwargs: dict[str, Any] | None = Field(
        None,
        description="Arguments of the reader: chunksize, or what pandas or DuckDB take.",
        examples=[{"sep": ";"}],
    )
    files_per_page: int | None = Field(None, ge=1, description="Files that are read at a time.")

    @model_validator(mode="after")
    def _has_its_package(self) -> Self:
        if package := _PACKAGES.get(self.reader):
            require(package, package)
        return self


class FilesystemForm(Form):
    """Files in a folder or a bucket. What is left out is as dlt's configuration says."""

    bucket_url: str = Field(
        description="The folder or the bucket.", examples=["s3://exports/shop", "data/exports"]
    )
    credentials: dict[str, Any] | None = Field(
        None,
        description=(
            "Credentials of the bucket. Without them dlt looks for "
            "SOURCES__FILESYSTEM__CREDENTIALS__..., and for those of the machine."
        ),
        examples=[
            {"aws_access_key_id": "{{ env.KEY_ID }}", "aws_secret_access_key": "{{ env.KEY }}"}
        ],
    )
    kwargs: dict[str, Any] | None = Field(None, description="Arguments of the fsspec filesystem.")
    client_kwargs: dict[str, Any] | None = Field(
        None, description="Arguments of the client below the fsspec filesystem."
    )
    tables: list[FileTableForm] = Field(
        min_length=1,
        description="The tables. `incremental: modification_date` loads files that are new.",
        examples=[[{"name": "orders", "file_glob": "orders/*.jsonl", "reader": "jsonl"}]],
    )

    @model_validator(mode="after")
    def _has_its_package(self) -> Self:
        if found := _BUCKETS.get(self.bucket_url.partition("://")[0]):
            require(*found)
        return self

    def source(self, name: str | None) -> DltSource:
        """Return dlt's source. It looks for files when it is extracted."""
        shared = self.model_dump(include=_SHARED, exclude_none=True)

        @dlt.source(name=name or "filesystem", section="filesystem")
        def source() -> Any:  # noqa: ANN401 - dlt takes many forms
            for table in self.tables:
                yield _resource(table, shared)

        return source()

    described = source


_SHARED: Final = {"bucket_url", "credentials", "kwargs", "client_kwargs"}


def _resource(table: FileTableForm, shared: dict[str, Any]) -> Any:  # noqa: ANN401 - a DltResource
    # Only here: it takes a while to be imported.
    from dlt.sources import filesystem as files  # noqa: PLC0415

    own: dict[str, Any] = {"file_glob": table.file_glob}
    if table.incremental:
        own["incremental"] = table.incremental.incremental()
    if table.files_per_page:
        own["files_per_page"] = table.files_per_page
    listed = files.filesystem(**shared, **own)
    # The only cursor that a listing has by itself is a time.
    by_date = table.incremental and table.incremental.cursor_path == "modification_date"
    table.tell_time(listed, "datetime" if by_date else None)
    read = getattr(files, f"read_{table.reader}")(**table.reader_kwargs or {})
    # dlt names the listing after it, and keeps its cursor by that name.
    resource = (listed | read).with_name(table.name)
    table.give(resource)
    return resource
