"""One derived check: what it asks, and how it appears in Dagster."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Final

import dagster as dg
from dlt.extract import DltResource, DltSource

from dagster_dlt import _dlt
from dagster_dlt._facts import DeclaredWindow, Promises, Reference
from dagster_dlt.checks.settings import DltChecks, DltFreshness, DltRowCount, Kind, Severity
from dagster_dlt.constants import META_KEY_CHECK
from dagster_dlt.errors import InvalidChecksError

#: What the names of derived checks begin with, so that they are apart from users' own.
PREFIX: Final = "dlt_"


@dataclass(frozen=True)
class Check:
    """What is asked about the table of a resource. Names are those of the hints."""

    kind: Kind
    resource: str
    #: None where each row decides which table it goes into.
    table: str | None = None
    columns: tuple[str, ...] = ()
    #: The table that is referred to, and its columns.
    other_table: str | None = None
    other_columns: tuple[str, ...] = ()
    #: dlt's data types of columns, where they were declared.
    types: Mapping[str, str] = field(default_factory=dict)
    #: Hours that the newest row may be old, and how its column tells time.
    hours: float | None = None
    tells: str | None = None
    at_least: int | None = None
    at_most: int | None = None
    factor: float | None = None
    severity: Severity | None = None
    blocking: bool = False
    sample: int = 0
    #: Columns that tell one row from another.
    key: tuple[str, ...] = ()
    #: Columns that are not to be shown.
    hidden: tuple[str, ...] = ()

    @property
    def needs_a_load(self) -> bool:
        """Whether nothing but a load can answer it."""
        return self.kind == "contract"

    @property
    def description(self) -> str:
        """What is promised, in a sentence."""
        names, others = ", ".join(self.columns), ", ".join(self.other_columns)
        said: dict[Kind, str] = {
            "primary_key": f"The key ({names}) is unique, and never null.",
            "not_null": f"Never null: {names}.",
            "unique": f"Each value once: {names}.",
            "references": f"What {names} refers to is in {self.other_table} ({others}).",
            "contract": "The schema contract has discarded no rows, and refused no load.",
            "drift": "No new columns, and no values that are not of their column's type.",
            "freshness": f"The newest value of {names} is at most {self.hours or 0:g} hours old.",
            "row_count": f"The number of rows is {self._bounds}.",
        }
        return said[self.kind]

    @property
    def _bounds(self) -> str:
        said = [
            f"at least {self.at_least:,}" if self.at_least is not None else "",
            f"at most {self.at_most:,}" if self.at_most is not None else "",
            f"within a factor of {self.factor:g} of what loads usually bring"
            if self.factor is not None
            else "",
        ]
        return ", ".join(filter(None, said))

    def spec(self, key: dg.AssetKey, name: str) -> dg.AssetCheckSpec:
        """Return the check as Dagster knows it; its metadata tell a run what to ask."""
        usual = vars(Check(self.kind, self.resource))
        told = {name: value for name, value in asdict(self).items() if value != usual.get(name)}
        return dg.AssetCheckSpec(
            name,
            asset=key,
            description=self.description,
            blocking=self.blocking,
            metadata={META_KEY_CHECK: {"kind": self.kind, "resource": self.resource, **told}},
        )

    @classmethod
    def of(cls, spec: dg.AssetCheckSpec) -> "Check | None":
        """Return the check that a spec stands for; None for one of the user's own."""
        told: Any = (spec.metadata or {}).get(META_KEY_CHECK)
        told = told.value if isinstance(told, dg.MetadataValue) else told
        if told is None:
            return None
        values: dict[str, Any] = {}
        for name, value in told.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


def checks_of(
    resource: DltResource,
    asked: DltChecks,
    source: DltSource | None = None,
    tells: DeclaredWindow | None = None,
) -> dict[str, Check]:
    """Return the checks that the hints of a resource give reason for, by their names.

    Args:
        resource: The resource.
        asked: Which ones are wanted, and how they answer.
        source: Its source, which may have a contract.
        tells: How its cursor tells time, where that is declared.

    Raises:
        InvalidChecksError: freshness is asked of a resource that has no cursor.
    """
    promises = _dlt.promises_of(resource, source)
    found: dict[str, Check] = {}
    for kind, values in _asked_of(resource, asked, promises, tells):
        if not asked.asks_for(kind):
            continue
        check = Check(
            kind=kind,
            resource=resource.name,
            table=promises.table,
            severity=asked.severity_of(kind),
            blocking=asked.blocks(kind),
            sample=0 if _dlt.is_private(resource) else asked.sample,
            hidden=promises.hidden,
            **values,
        )
        found[f"{PREFIX}{kind}"] = check
    wanted = asked.asks_for("references") and promises.table is not None
    references = _references(promises.references) if wanted else {}
    for name, reference in references.items():
        found[name] = Check(
            kind="references",
            resource=resource.name,
            table=promises.table,
            columns=reference.columns,
            other_table=reference.table,
            other_columns=reference.table_columns,
            severity=asked.severity_of("references"),
            blocking=asked.blocks("references"),
            sample=0 if _dlt.is_private(resource) else asked.sample,
            hidden=promises.hidden,
        )
    return found


def _asked_of(
    resource: DltResource, asked: DltChecks, promises: Promises, tells: DeclaredWindow | None
) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """Return what is to be asked of one resource, but for references."""
    if promises.refuses:
        yield "contract", {}
    yield "drift", {"types": promises.types, "columns": promises.columns}
    if promises.table is None:
        return  # nobody knows what to ask
    if promises.primary_key:
        yield "primary_key", {"columns": promises.primary_key, "key": promises.primary_key}
    if promises.not_null:
        yield "not_null", {"columns": promises.not_null, "key": promises.primary_key}
    if promises.unique:
        yield "unique", {"columns": promises.unique}
    if isinstance(asked.freshness, DltFreshness):
        yield "freshness", _freshness(resource, asked.freshness, tells)
    if isinstance(asked.row_count, DltRowCount):
        bounds = asked.row_count
        yield (
            "row_count",
            {"at_least": bounds.min, "at_most": bounds.max, "factor": bounds.factor},
        )


def _freshness(
    resource: DltResource, asked: DltFreshness, tells: DeclaredWindow | None
) -> dict[str, Any]:
    cursor = _dlt.cursor_of(resource)
    column = asked.column or (cursor.path if cursor else None)
    if column is None:
        problem = "ask for freshness, and the resource has no cursor that is known"
        remedy = 'Name the column, as in {"freshness": {"hours": 24, "column": "updated_at"}}'
        raise InvalidChecksError(resource.name, problem, remedy)
    own = tells if tells != "own" else None
    if own is None and cursor and cursor.path == column:
        own = cursor.kind
        if own is None and type(cursor.example) in (int, float):
            problem = (
                f"ask for freshness, and {column!r} has numbers of which nobody knows the unit"
            )
            remedy = 'Say it with the attribute "window", as in {"window": "seconds"}'
            raise InvalidChecksError(resource.name, problem, remedy)
    return {"columns": (column,), "hours": asked.hours, "tells": own}


def _references(references: Sequence[Reference]) -> dict[str, Reference]:
    """Return the references by the names of their checks, whatever others there are."""
    names = [f"{PREFIX}references_{each.table}_by_{'_'.join(each.columns)}" for each in references]
    names = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    taken = Counter(names)
    return {
        name if taken[name] == 1 else f"{name}_{_digest(each)}": each
        for name, each in zip(names, references, strict=True)
    }


def _digest(reference: Reference) -> str:
    return sha256(repr(reference).encode()).hexdigest()[:6]


def check_specs(
    source: DltSource,
    keys: Mapping[str, dg.AssetKey],
    asked: Mapping[str, DltChecks],
    windows: Mapping[str, DeclaredWindow],
) -> list[dg.AssetCheckSpec]:
    """Return the specs of the checks of a source's resources.

    Args:
        source: The source.
        keys: Keys of the assets by the names of their resources.
        asked: The checks that are wanted, by resource.
        windows: How cursors tell time, as far as that is declared.

    Raises:
        InvalidChecksError: a resource cannot have what is asked of it.
    """
    return [
        check.spec(keys[name], check_name)
        for name, resource in _dlt.selected_resources(source).items()
        if name in asked and name in keys
        for check_name, check in checks_of(resource, asked[name], source, windows.get(name)).items()
    ]
