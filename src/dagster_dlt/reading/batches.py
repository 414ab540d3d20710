"""The rows of a query as record batches of Arrow, in the types that dlt's tables have."""

from collections.abc import Generator, Iterator, Sequence
from decimal import Context, Decimal
from tempfile import TemporaryFile
from typing import Any, Final

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.reading.libraries import library
from dagster_dlt.reading.table import Query, Wanted, found

#: More digits than any destination has.
_DIGITS: Final = Context(prec=200)


class Batches:
    """The rows that are wanted of a table. The connection is open until the last one is read.

    Where the destination is one file, which others cannot open meanwhile, the rows that are read
    one by one are first copied into a temporary file.
    """

    def __init__(self, pipeline: Pipeline, wanted: Wanted) -> None:
        self.arrow = library("pyarrow")
        self._rows = _batches(pipeline, wanted)
        # To know the schema, the connection is opened.
        self.schema, self._is_file = next(self._rows)

    def table(self) -> Any:  # noqa: ANN401 - pyarrow need not be installed for types to be checked
        """Read everything."""
        return self.arrow.Table.from_batches(list(self._rows), schema=self.schema)

    def reader(self) -> Any:  # noqa: ANN401 - as above
        """Return what reads batch after batch."""
        rows = self._rows
        if self._is_file:
            rows = _spooled(self.arrow, self.schema, rows)
            next(rows)
        return self.arrow.RecordBatchReader.from_batches(self.schema, rows)


def _batches(pipeline: Pipeline, wanted: Wanted) -> Generator[Any, None, None]:
    """Yield the schema and whether it is a file's, and then the batches.

    What is open is closed with the generator.
    """
    with found(pipeline, wanted) as query:
        schema = schema_of(query)
        yield schema, query.is_file
        convert = _Conversion(query, schema)
        for rows in _dlt.rows_of(query.client.sql_client, query.sql, query.values):
            yield from convert(rows).to_batches()


def schema_of(query: Query) -> Any:  # noqa: ANN401 - as above
    """Return the Arrow schema of what a query finds."""
    from dlt.common.libs.pyarrow import columns_to_arrow  # noqa: PLC0415 - takes pyarrow

    arrow = library("pyarrow")
    schema = columns_to_arrow(query.columns, _dlt.read_capabilities(query.client), "UTC")
    # What a destination holds need not keep what the schema has promised.
    return arrow.schema([arrow.field(field.name, field.type) for field in schema])


class _Conversion:
    """Makes tables of one schema, of tables as DuckDB makes them or of rows."""

    def __init__(self, query: Query, schema: Any) -> None:  # noqa: ANN401 - as above
        self._arrow = library("pyarrow")
        self._schema = schema
        self._able = _dlt.read_capabilities(query.client)
        self._columns = {name: query.columns[name] for name in schema.names}
        self._scales = {
            place: Decimal(1).scaleb(-field.type.scale)
            for place, field in enumerate(schema)
            if self._arrow.types.is_decimal(field.type)
        }

    def __call__(self, rows: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(rows, self._arrow.Table):
            return rows.cast(self._schema)
        return self._of_rows(rows)

    def _of_rows(self, rows: Sequence[Sequence[Any]]) -> Any:  # noqa: ANN401 - as above
        from dlt.common.libs.pyarrow import row_tuples_to_arrow  # noqa: PLC0415 - as above

        exact = [self._exact(row) for row in rows] if self._scales else rows
        made = row_tuples_to_arrow(exact, self._able, self._columns, tz="UTC")
        return made.cast(self._schema)

    def _exact(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a row whose decimals have the digits that their types have.

        PostgreSQL has more of them for large integers, and SQLite gives floats.
        """
        values = list(row)
        for place, scale in self._scales.items():
            if values[place] is not None:
                values[place] = Decimal(str(values[place])).quantize(scale, context=_DIGITS)
        return tuple(values)


def _spooled(arrow: Any, schema: Any, rows: Iterator[Any]) -> Generator[Any, None, None]:  # noqa: ANN401 - as above
    """Copy batches into a temporary file, say so, and yield them from there one by one."""
    with TemporaryFile() as file:
        with arrow.ipc.new_stream(file, schema) as writer:
            for batch in rows:
                writer.write_batch(batch)
        file.seek(0)
        yield None
        with arrow.ipc.open_stream(file) as reader:
            yield from reader
