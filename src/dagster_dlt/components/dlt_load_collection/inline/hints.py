"""What YAML says of one table: its keys, its cursor, and what becomes of its rows."""

import re
from datetime import datetime, timezone
from typing import Any, ClassVar, Final, Literal

import dlt
from dlt.extract import DltResource
from pydantic import Field

from dagster_dlt._facts import DeclaredWindow
from dagster_dlt.components.dlt_load_collection.inline.form import Form

Columns = str | list[str]


class IncrementalForm(Form):
    """A cursor, as dlt's `incremental` takes it. The name of its column may stand for the block."""

    short_for: ClassVar[str | None] = "cursor_path"

    cursor_path: str = Field(
        description="Column, or JSON path, of the cursor.", examples=["updated_at"]
    )
    initial_value: Any = Field(
        None,
        description="Where the first load begins. A date or time in ISO 8601 is one.",
        examples=["2024-01-01T00:00:00Z"],
    )
    end_value: Any = Field(None, description="Where every load ends, before this value.")
    last_value_func: Literal["max", "min"] = Field(
        "max", description="Whether the greatest or the least value is kept."
    )
    row_order: Literal["asc", "desc"] | None = Field(None, description="Order to ask for rows in.")
    lag: float | None = Field(
        None, description="How far before the cursor to begin: seconds, days of dates, or numbers."
    )
    on_cursor_value_missing: Literal["raise", "include", "exclude"] = Field(
        "raise", description="What to do with rows without a value."
    )
    range_start: Literal["open", "closed"] = Field(
        "closed", description="Whether the first value itself is loaded."
    )
    range_end: Literal["open", "closed"] = Field(
        "open", description="Whether the end value itself is loaded."
    )
    window: DeclaredWindow | None = Field(
        None,
        description="How the cursor tells time, for time partitions and ISO values.",
        examples=["datetime", "date", "text", "seconds"],
    )

    def incremental(self) -> "dlt.sources.incremental[Any]":
        """Return dlt's incremental."""
        own = {"initial_value", "end_value", "last_value_func", "window"}
        return dlt.sources.incremental(
            **self.model_dump(exclude=own),
            initial_value=self._value(self.initial_value),
            end_value=self._value(self.end_value),
            last_value_func={"max": max, "min": min}[self.last_value_func],
        )

    def _value(self, given: Any) -> Any:  # noqa: ANN401 - of the cursor's type
        """Return a value in the type of the cursor: YAML, as Dagster reads it, has no times."""
        if not isinstance(given, str) or self.window == "text" or not _ISO.fullmatch(given):
            return given
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", given))
        if self.window == "date":
            return moment.date()
        if self.window == "local_datetime":
            return moment.replace(tzinfo=None)
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


class HintsForm(Form):
    """Hints of a resource, in dlt's words."""

    table_name: str | None = Field(
        None, description="Table at the destination, by default called like the resource."
    )
    write_disposition: str | dict[str, Any] | None = Field(
        None,
        description="append, replace or merge, or a mapping with disposition and strategy.",
        examples=["merge", {"disposition": "merge", "strategy": "scd2"}],
    )
    primary_key: Columns | None = Field(
        None, description="Column, or columns, that tell rows apart.", examples=["id"]
    )
    merge_key: Columns | None = Field(
        None, description="Column, or columns, whose rows are replaced together."
    )
    columns: dict[str, dict[str, Any]] | None = Field(
        None,
        description="Hints of columns, by name.",
        examples=[{"price": {"data_type": "decimal"}}],
    )
    schema_contract: str | dict[str, str] | None = Field(
        None, description="What may change: evolve, freeze, discard_row or discard_value."
    )
    incremental: IncrementalForm | None = Field(
        None, description="Cursor: only what is new is loaded.", examples=["updated_at"]
    )

    def give(self, resource: DltResource) -> None:
        """Give the hints of the table to a resource; what is left out stays as it is."""
        hints: dict[str, Any] = self.model_dump(include=_TABLE, exclude_none=True)
        if hints:
            resource.apply_hints(**hints)

    def tell_time(self, resource: DltResource, window: DeclaredWindow | None = None) -> None:
        """Tell a resource how its cursor tells time, if that is known."""
        declared = (self.incremental.window if self.incremental else None) or window
        if declared:
            resource.apply_hints(additional_table_hints={"x-dagster": {"window": declared}})


_TABLE: Final = {
    *("table_name", "write_disposition", "primary_key", "merge_key", "columns", "schema_contract")
}
#: A date, or a time with or without an offset, as Python 3.10 reads it.
_ISO: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}"
    r"(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{3}(?:\d{3})?)?)?(?:[zZ]|[+-]\d{2}:\d{2})?)?"
)
