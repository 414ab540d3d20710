"""Bounded incrementals: they take the rows of a window, and keep no state."""

from datetime import datetime
from typing import Any, Final, Protocol

import pendulum
from dlt.common.libs import is_pandas_frame, is_polars_frame
from dlt.extract.incremental import Incremental
from dlt.extract.incremental.transform import (
    ArrowIncremental,
    IncrementalTransform,
    JsonIncremental,
)

from dagster_dlt._facts import CursorKind
from dagster_dlt.errors import CursorValueError


class Span(Protocol):
    """A window as a cursor sees it."""

    @property
    def for_source(self) -> tuple[object, object]:
        """The bounds as the source writes its values."""

    @property
    def kind(self) -> CursorKind:
        """How the values tell time."""

    def exactly(self, kind: CursorKind) -> tuple[object, object]:
        """Return the bounds for values of one kind."""

    def side(self, value: object) -> int:
        """Tell whether a value is before the window (-1), inside (0) or after (1)."""


def bounded(given: Incremental[Any], span: Span) -> Incremental[Any]:
    """Return an incremental like the one that is given, for the rows of a window."""
    low, high = (_as_given(each, given) for each in span.for_source)
    is_descending = given.last_value_func is min
    first, last = (high, low) if is_descending else (low, high)
    found = _Bounded(
        given.cursor_path,
        initial_value=first,
        end_value=last,
        last_value_func=min if is_descending else max,
        primary_key=given.primary_key,
        row_order=given.row_order,
        on_cursor_value_missing=given.on_cursor_value_missing,
        # Where it counts down, the end of the window comes first.
        range_start="open" if is_descending else "closed",
        range_end="closed" if is_descending else "open",
    )
    found._span = span
    if hasattr(given, "__orig_class__"):
        found.__orig_class__ = given.__orig_class__
    return found


def _as_given(value: object, given: Incremental[Any]) -> object:
    """Return times as the class that the code of the resource knows: pendulum's, if it is open."""
    if isinstance(value, datetime):
        declared = given.get_incremental_value_type()
        return value if declared is datetime else pendulum.instance(value, tz=value.tzinfo)
    return value


class _Bounded(Incremental[Any]):
    """An incremental that takes the rows of a window, whatever its values are in.

    dlt would compare texts letter by letter, and read a time without a zone in UTC.
    """

    _span: Span | None = None  # what dlt copies with its constructor goes by the bounds alone

    def _make_or_get_transformer(self, cls: type[IncrementalTransform]) -> IncrementalTransform:
        if self._span is None:
            return super()._make_or_get_transformer(cls)
        found = super()._make_or_get_transformer(_OURS.get(cls, cls))
        if isinstance(found, _Rows | _Tables):
            found.span = self._span
        return found


class _Rows(JsonIncremental):
    span: Span
    last_value: Any

    def __call__(self, row: Any) -> tuple[Any, bool, bool]:  # noqa: ANN401 - any data at all
        value = None if row is None else self.find_cursor_value(row)
        if value is None:
            return None if self.on_cursor_value_missing == "exclude" else row, False, False
        self.seen_data = True
        try:
            side = self.span.side(value)
        except CursorValueError as error:
            raise CursorValueError(error.value, self.resource_name, self.cursor_path) from None
        if side:
            is_past = (side < 0) == (self.last_value_func is min)
            return None, not is_past, is_past
        try:
            # For code that asks for the next page by it.
            self.last_value = self.last_value_func((value, self.last_value))
        except TypeError:
            self.last_value = value
        return row, False, False


class _Tables(ArrowIncremental):
    span: Span
    start_value: Any
    last_value: Any
    end_value: Any

    def __call__(self, tbl: Any) -> tuple[Any, bool, bool]:  # noqa: ANN401 - any data at all
        kind = None if self.seen_data else _kind_of_column(tbl, self.cursor_path, self.span)
        if kind is not None:
            low, high = self.span.exactly(kind)
            first, last = (high, low) if self.last_value_func is min else (low, high)
            self.start_value = self.last_value = first
            self.end_value = last
            self.start_value_is_datetime = self.end_value_is_datetime = False
        return super().__call__(tbl)


_OURS: Final[dict[type[IncrementalTransform], type[IncrementalTransform]]] = {
    JsonIncremental: _Rows,
    ArrowIncremental: _Tables,
}


def _kind_of_column(tbl: Any, path: str, span: Span) -> CursorKind | None:  # noqa: ANN401 - a table
    """Return how a column tells time, or None where the bounds are those of the source."""
    from dlt.common.libs.pyarrow import pyarrow as pa  # noqa: PLC0415 - only with such tables

    if is_pandas_frame(tbl):
        tbl = pa.Table.from_pandas(tbl[[path]]) if path in tbl.columns else None
    elif is_polars_frame(tbl):
        tbl = tbl.select(path).to_arrow() if path in tbl.columns else None
    if tbl is None or path not in tbl.schema.names:
        return None
    of = tbl.schema.field(path).type
    if pa.types.is_timestamp(of):
        return "datetime" if of.tz else "local_datetime"
    if pa.types.is_date(of):
        return "date"
    if (pa.types.is_integer(of) or pa.types.is_floating(of)) and span.kind.endswith("seconds"):
        return span.kind
    return None
