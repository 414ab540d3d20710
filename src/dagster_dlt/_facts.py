"""Frozen values that cross the bridge between dlt and Dagster. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import ClassVar, Literal

#: How the values of a cursor tell time: as a time with or without a zone, as a day, as a text in
#: ISO 8601, or as a number that counts from 1970 on.
CursorKind = Literal[
    "datetime",
    "local_datetime",
    "date",
    "text",
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
]
#: What a user says of a resource's cursor; `"own"`: it selects the rows of its partition itself.
DeclaredWindow = CursorKind | Literal["own"]


@dataclass(frozen=True)
class Column:
    """A column as the destination has it."""

    name: str
    data_type: str | None
    nullable: bool
    unique: bool
    description: str | None
    #: Names of the remaining hints (`primary_key`, `row_key`, …), sorted.
    hints: tuple[str, ...]
    #: Those of them that have a value, as text: `precision`, `x-…`.
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of a dlt schema, under the name it has at the destination."""

    name: str
    columns: tuple[Column, ...]
    #: Columns with those that they are copied from: in the one table that the resource reads, or in
    #: the table that this one is nested in.
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """The table of a resource and those nested in it, as dlt loads them: together."""

    resource: str
    #: Name of each table with the name of the one it is nested in, outermost first.
    tables: tuple[tuple[str, str | None], ...]

    @property
    def root(self) -> str:
        """Name of the outermost table."""
        return self.tables[0][0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tables, outermost first."""
        return tuple(name for name, _ in self.tables)


#: What a destination makes of the letters of a name.
Letters = Literal["upper", "lower", "as they are"]


def folded(name: str, letters: Letters) -> str:
    """Return a name in the letters of a destination."""
    return {"upper": name.upper(), "lower": name.lower()}.get(letters, name)


@dataclass(frozen=True)
class Location:
    """Where a pipeline writes, and what its tables are called there, as far as that is known."""

    #: The dataset as the destination names it.
    dataset: str | None = None
    #: What stands in front of a table's name in a query, outermost first.
    path: tuple[str, ...] = ()
    #: What the name of a table begins with, where a destination has no datasets.
    prefix: str = ""
    letters: Letters = "as they are"
    #: URL of the files of a table, with `TABLE` in place of its name, where tables are files.
    url: str | None = None

    #: Stands for the name of a table in `url`.
    TABLE: ClassVar = "the-name-of-a-table"

    def qualified(self, table: str) -> str:
        """Return the name of a table as a query has it, without the parts that are unknown."""
        return ".".join((*self.path, f"{self.prefix}{folded(table, self.letters)}"))

    def spelled(self, letters: Letters) -> "Location":
        """Return the same place with all names in these letters, as a query may have them too."""
        if letters == "as they are":
            return self
        path = tuple(folded(part, letters) for part in self.path)
        return replace(self, path=path, prefix=folded(self.prefix, letters), letters=letters)

    def url_of(self, table: str) -> str | None:
        """Return the URL of the files of a table, if it is kept in files."""
        return self.url.replace(self.TABLE, table) if self.url else None


@dataclass(frozen=True)
class Home:
    """Where the data and the state of a pipeline live."""

    #: What tells the destination from others: no dataset. Only ever shown as a digest.
    destination: str
    #: The pipeline gets its state back from the destination.
    restores_state: bool
    #: The data are in the pipeline's own working directory (DuckDB's `:pipeline:`).
    in_working_dir: bool


@dataclass(frozen=True)
class Window:
    """A stretch of time: from `start` on, and before `end`. Both know their time zone."""

    start: datetime
    end: datetime

    def covers(self, other: "Window") -> bool:
        """Tell whether each moment of the other one belongs to this one."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: "Window") -> bool:
        """Tell whether some moment belongs to both."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Cursor:
    """The field by which a resource is loaded incrementally."""

    #: Where the field is in a row, as dlt writes it; None where dlt's configuration has it.
    path: str | None
    #: What tells how its values are written: the value to begin with, if there is one.
    example: object
    #: How its values tell time, as far as the code says; None where they may be anything.
    kind: CursorKind | None
    #: The least rather than the greatest value counts.
    is_descending: bool
    #: It is moved by each load and kept in the pipeline's state. One that has an end, or that is
    #: not to be bounded from outside, the user bounds.
    is_live: bool


#: How values of a cursor are written, as far as its code says.
CursorValue = Literal["datetime", "local_datetime", "date", "text", "integer", "number", "unknown"]


@dataclass(frozen=True)
class KnownCursor:
    """What definitions need to know of a cursor."""

    #: For pydantic, which reads it from snapshots.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    path: str | None = None
    value: CursorValue = "unknown"
    is_descending: bool = False
    is_live: bool = True


@dataclass(frozen=True)
class KnownResource:
    """What definitions need to know of a resource that is not built yet."""

    #: For pydantic, which reads it from snapshots.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    #: None where it is the resource's own name.
    table_name: str | None = None
    #: Each row decides which table it goes into.
    is_dynamic: bool = False
    description: str | None = None
    #: Name of the resource that feeds it, if it is a transformer.
    parent: str | None = None
    write_disposition: str | Mapping[str, object] | None = None
    primary_key: tuple[str, ...] = ()
    merge_key: tuple[str, ...] = ()
    #: Hints by column, as dlt has them.
    columns: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    cursor: KnownCursor | None = None
    #: The places it reads, as dlt notes them.
    inputs: tuple[Mapping[str, object], ...] = ()
    #: Further hints of the table.
    table_hints: Mapping[str, object] = field(default_factory=dict)
    #: Names of the tables that are nested in its own.
    nested_tables: tuple[str, ...] = ()
    #: Other tables whose rows its own refer to, as dlt has them.
    references: tuple[Mapping[str, object], ...] = ()
    schema_contract: str | Mapping[str, object] | None = None


@dataclass(frozen=True)
class Reference:
    """A promise that rows name rows of another table."""

    columns: tuple[str, ...]
    table: str
    table_columns: tuple[str, ...]


@dataclass(frozen=True)
class Promises:
    """What the hints of a resource promise of its rows, in the words of the hints."""

    #: None where each row decides which table it goes into.
    table: str | None
    #: All columns that have hints.
    columns: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    #: Columns that are never null, but for those of the key.
    not_null: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    #: dlt's data types of the columns that have one.
    types: Mapping[str, str] = field(default_factory=dict)
    #: Columns whose values nobody is to see.
    hidden: tuple[str, ...] = ()
    #: A schema contract refuses rows, or loads with them.
    refuses: bool = False


@dataclass(frozen=True)
class LoadSigns:
    """What one load says of the rows that it was given."""

    #: Rows that were given, and rows that were kept, by table; only tables of which both are known.
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    #: Columns that are new in tables that were there before, and variants in any, by table. None of
    #: them for a nested table that is new itself, in one that is not.
    new_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """Where to stop reading each resource, in dlt's terms."""

    max_items: int | None = None
    #: Seconds.
    max_time: float | None = None
    #: Whether rows are counted rather than what a resource yields, often a page.
    count_rows: bool = False


@dataclass(frozen=True)
class Drops:
    """What a refresh takes away."""

    #: Tables that are dropped, or emptied, as far as they have data.
    tables: tuple[str, ...] = ()
    #: `<resource>.<cursor>` of the cursors that are forgotten; `<resource>` for other state.
    cursors: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemaChanges:
    """What a load has added to the tables of a resource."""

    tables: tuple[str, ...] = ()
    #: `<table>.<column>` of columns that are new in tables that were there.
    columns: tuple[str, ...] = ()
    #: `<table>.<column>` of those that hold values that did not fit the type of another column.
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class CursorMove:
    """From where to where a load has moved an incremental cursor."""

    path: str
    #: None where the load began from the beginning.
    before: object
    after: object


@dataclass(frozen=True)
class LoadFacts:
    """What one load did as a whole."""

    destination_name: str
    destination_type: str
    dataset_name: str | None
    first_run: bool
    started_at: datetime | None
    finished_at: datetime | None
    location: Location
    load_ids: tuple[str, ...] = ()
    #: Of dlt's steps (`extract`, `normalize`, `load`), as far as this process did them.
    seconds: Mapping[str, float] = field(default_factory=dict)
    schema_version: int | None = None


@dataclass(frozen=True)
class ResourceFailure:
    """Why one resource was not loaded."""

    #: The dlt resource, or None where dlt does not say whose fault it was.
    resource: str | None
    #: dlt's step: `extract`, `normalize` or `load`.
    stage: str
    #: Resources that were to be loaded together with it, and were not.
    held_back: tuple[str, ...]
    table: str | None
    load_id: str | None
    #: Type and text of the first cause.
    cause: str
    #: dlt's `pipelines_dir` in which the package waits to be finished, if one does.
    pipelines_dir: str | None
    #: What dlt raised; lost when the failure is pickled, since it may hold connections.
    error: BaseException | None = field(repr=False)

    def __reduce__(self) -> tuple[type["ResourceFailure"], tuple[object, ...]]:
        values = [getattr(self, item.name) for item in fields(self) if item.name != "error"]
        return type(self), (*values, None)


@dataclass(frozen=True)
class ResourceFacts:
    """What one load did for one dlt resource."""

    resource: str
    #: Tables the resource writes to directly; empty while dlt has seen no data for it.
    tables: tuple[Table, ...] = ()
    #: Tables below those, in the order of the schema.
    nested: tuple[Table, ...] = ()
    #: Rows of this load by table, nested tables included.
    rows: Mapping[str, int] = field(default_factory=dict)
    #: Rows this resource contributed to its own tables; None where dlt no longer knows, because
    #: the package was built by an earlier attempt.
    rows_loaded: int | None = 0
    #: Rows that it gave, nested ones not counted, before dlt normalized them; None likewise.
    rows_extracted: int | None = None
    #: Where its cursors were and are, those that the load has left alone included.
    cursors: tuple[CursorMove, ...] = ()
    #: None where dlt does not say, since its process died.
    changes: SchemaChanges | None = None
    #: Column that tells the time of its rows, and how, where a cursor does.
    told_by: tuple[str, CursorKind] | None = None
    #: dlt's load jobs for those tables: plain values, ready for JSON.
    jobs: tuple[Mapping[str, object], ...] = ()

    @property
    def table(self) -> str | None:
        """Name of the resource's table if it has exactly one."""
        return self.tables[0].name if len(self.tables) == 1 else None
