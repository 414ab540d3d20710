"""`sql_database:`, dlt's source for tables of a database, with keys and cursors for each table."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Final, Literal

import dlt
from dlt.extract import DltResource, DltSource
from pydantic import Field

from dagster_dlt.components.dlt_load_collection.inline.form import Form, require
from dagster_dlt.components.dlt_load_collection.inline.hints import HintsForm

#: Stands for the database while definitions are loaded: it needs no driver and connects to nothing.
_NOWHERE: Final = "sqlite://"


class SqlTableForm(HintsForm):
    """A table, or a view. Its name may stand for the block."""

    short_for: ClassVar[str | None] = "name"

    name: str = Field(description="Name of the table in the database.", examples=["orders"])
    included_columns: list[str] | None = Field(None, description="Columns to load, instead of all.")
    excluded_columns: list[str] | None = Field(None, description="Columns to leave out.")


class SqlDatabaseForm(Form):
    """Tables of a database. What is left out is as dlt's configuration says."""

    credentials: str | dict[str, Any] | None = Field(
        None,
        description=(
            "URL of the database, or its parts. Without it dlt looks for "
            "SOURCES__SQL_DATABASE__CREDENTIALS when the load runs."
        ),
        examples=["postgresql://loader:{{ env.DB_PASSWORD }}@db.example.com:5432/shop"],
    )
    db_schema: str | None = Field(
        None, alias="schema", description="Schema of the tables, by default the database's own."
    )
    tables: list[SqlTableForm] | None = Field(
        None,
        min_length=1,
        description="The tables: a name each, or a mapping with the name and hints.",
        examples=[["customers", {"name": "orders", "incremental": "updated_at"}]],
    )
    backend: Literal["sqlalchemy", "pyarrow", "pandas", "connectorx"] = Field(
        "sqlalchemy", description="What reads the rows."
    )
    chunk_size: int = Field(50000, ge=1, description="Rows that are read at a time.")
    reflection_level: Literal["minimal", "full", "full_with_precision"] = Field(
        "full", description="How much of the columns' types is taken over."
    )
    backend_kwargs: dict[str, Any] | None = Field(None, description="Arguments of the backend.")
    engine_kwargs: dict[str, Any] | None = Field(
        None, description="Arguments of SQLAlchemy's `create_engine`."
    )

    def source(self, name: str | None) -> DltSource:
        """Return dlt's source. It connects to the database when it is extracted."""
        if self.tables is None:
            return self._whole(name)
        return self._source(name, self.credentials)

    def described(self, name: str | None) -> DltSource | None:
        """Return the source without the database; None where only that knows the tables."""
        if not self.tables:
            return None
        source = self._source(name, _NOWHERE)
        for resource in source.resources.values():
            # Where it reads, only the credentials of a run tell.
            resource.inputs.clear()
        return source

    def _source(self, name: str | None, credentials: object) -> DltSource:
        sql_table, shared = _dlts().sql_table, self._shared(credentials)

        @dlt.source(name=name or "sql_database", section="sql_database")
        def source() -> Any:  # noqa: ANN401 - dlt takes many forms
            for table in self.tables or []:
                yield _resource(sql_table, table, shared)

        return source()

    def _whole(self, name: str | None) -> DltSource:
        """Return all tables of the schema, which the database is asked for."""
        function = _dlts().sql_database
        function = function.clone(name=name) if name else function
        made: DltSource = function(**self._shared(self.credentials))
        return made

    def _shared(self, credentials: object) -> dict[str, Any]:
        shared = self.model_dump(include=_SHARED, exclude_none=True)
        if credentials is not None:
            shared["credentials"] = credentials
        if self.db_schema is not None:
            shared["schema"] = self.db_schema
        return shared


_SHARED: Final = {"backend", "chunk_size", "reflection_level", "backend_kwargs", "engine_kwargs"}


def _resource(
    sql_table: Callable[..., DltResource], table: SqlTableForm, shared: dict[str, Any]
) -> DltResource:
    own: dict[str, Any] = table.model_dump(
        include={"included_columns", "excluded_columns"}, exclude_none=True
    )
    if table.incremental:
        own["incremental"] = table.incremental.incremental()
    for hint in ("primary_key", "merge_key", "write_disposition"):
        if getattr(table, hint) is not None:
            own[hint] = getattr(table, hint)
    resource = sql_table(table=table.name, defer_table_reflect=True, **shared, **own)
    # As hints too where dlt reads them from the table only when it is extracted.
    table.give(resource)
    table.tell_time(resource)
    return resource


def _dlts() -> ModuleType:
    require("sqlalchemy", "dagster-dlt[sql-database]")
    # Only here: without SQLAlchemy it cannot be imported.
    from dlt.sources import sql_database  # noqa: PLC0415

    return sql_database
