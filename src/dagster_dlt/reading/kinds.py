"""What a table is read as: data frames, Arrow, DuckDB's relations; chosen by an annotation."""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.errors import UnknownKindError
from dagster_dlt.reading.batches import Batches
from dagster_dlt.reading.libraries import library
from dagster_dlt.reading.table import Query, Wanted, found, tables_of

#: Takes what closes a connection, which stays open for what was read.
Keep = Callable[[Callable[[], object]], None]
Kind = Callable[[Pipeline, Wanted, Keep], Any]

#: What is read where nothing is annotated.
DEFAULT: Final = "pandas.DataFrame"


def kind_of(annotation: object, asset: str) -> Kind:
    """Return how to read what an input is annotated with.

    Raises:
        UnknownKindError: tables cannot be read as that.
    """
    if typing.get_origin(annotation) in {dict, Mapping}:
        return _of_each(kind_of(typing.get_args(annotation)[1], asset))
    name = _name(annotation)
    if name not in KINDS:
        raise UnknownKindError(asset, name, list(KINDS))
    return KINDS[name]


def _name(annotation: object) -> str:
    """Return the library and the class that are meant, without importing the one."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        given = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _name(given[0]) if len(given) == 1 else str(annotation)
    if annotation is None or annotation is Any or isinstance(annotation, TypeVar):
        return DEFAULT
    if not isinstance(annotation, type):
        return str(annotation)
    return f"{annotation.__module__.split('.')[0].lstrip('_')}.{annotation.__qualname__}"


def _of_each(kind: Kind) -> Kind:
    """Return how to read all tables of an asset, by their names."""

    def read(pipeline: Pipeline, wanted: Wanted, keep: Keep) -> Any:  # noqa: ANN401 - as below
        names = tables_of(pipeline, wanted)
        return {name: kind(pipeline, replace(wanted, table=name), keep) for name in names}

    return read


def _pandas(pipeline: Pipeline, wanted: Wanted, _keep: Keep) -> Any:  # noqa: ANN401 - of a library that need not be there
    """Read a data frame of pandas, in which integers and booleans stay what they are."""
    pandas = library("pandas")
    table = Batches(pipeline, wanted).table()
    arrow = library("pyarrow")
    # numpy has no integer for null, and a float does not hold all integers.
    nullable = {
        arrow.bool_(): pandas.BooleanDtype(),
        arrow.int8(): pandas.Int8Dtype(),
        arrow.int16(): pandas.Int16Dtype(),
        arrow.int32(): pandas.Int32Dtype(),
        arrow.int64(): pandas.Int64Dtype(),
    }
    return pandas.DataFrame(
        {
            name: column.to_pandas(types_mapper=nullable.get if column.null_count else None)
            for name, column in zip(table.column_names, table.columns, strict=True)
        },
        columns=table.column_names,
    )


def _polars(pipeline: Pipeline, wanted: Wanted, _keep: Keep) -> Any:  # noqa: ANN401 - as above
    polars = library("polars")
    return polars.from_arrow(_narrow(Batches(pipeline, wanted).table()))


def _lazy_polars(pipeline: Pipeline, wanted: Wanted, keep: Keep) -> Any:  # noqa: ANN401 - as above
    return _polars(pipeline, wanted, keep).lazy()


def _narrow(table: Any) -> Any:  # noqa: ANN401 - as above
    """Return a table without decimals of more than 38 digits, which neither library has.

    Where values have no more, their column is a decimal nevertheless, and otherwise it is text.
    """
    arrow = library("pyarrow")
    for place, field in enumerate(table.schema):
        if arrow.types.is_decimal256(field.type):
            column = table.column(place)
            try:
                column = column.cast(arrow.decimal128(38, min(field.type.scale, 38)))
            except arrow.ArrowInvalid:
                column = column.cast(arrow.string())
            table = table.set_column(place, field.name, column)
    return table


def _arrow(pipeline: Pipeline, wanted: Wanted, _keep: Keep) -> Any:  # noqa: ANN401 - as above
    return Batches(pipeline, wanted).table()


def _arrow_reader(pipeline: Pipeline, wanted: Wanted, _keep: Keep) -> Any:  # noqa: ANN401 - as above
    return Batches(pipeline, wanted).reader()


def _relation(pipeline: Pipeline, wanted: Wanted, keep: Keep) -> Any:  # noqa: ANN401 - as above
    """Return a relation over the table itself, or elsewhere over a copy in memory."""
    duckdb = library("duckdb")
    with found(pipeline, wanted) as query:
        if borrowed := _dlt.borrowed_duckdb(query.client):
            connection, give_back = borrowed
            keep(give_back)
            connection.execute("SET TimeZone = 'UTC'")
            return connection.sql(_with_literals(query))
    connection = duckdb.connect()
    keep(connection.close)
    connection.execute("SET TimeZone = 'UTC'")
    return connection.from_arrow(_narrow(Batches(pipeline, wanted).table()))


def _with_literals(query: Query) -> str:
    """Return the text of a query with its values: a relation with parameters is not lazy."""
    literals = ["'" + str(value).replace("'", "''") + "'" for value in query.values]
    return query.sql % tuple(literals) if literals else query.sql


KINDS: Final[Mapping[str, Kind]] = {
    "duckdb.DuckDBPyRelation": _relation,
    "pandas.DataFrame": _pandas,
    "polars.DataFrame": _polars,
    "polars.LazyFrame": _lazy_polars,
    "pyarrow.RecordBatchReader": _arrow_reader,
    "pyarrow.Table": _arrow,
}
