"""Partitions: what each loads of a source, and what it must not do to the others."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dlt.extract import DltResource, DltSource

from dagster_dlt import _dlt
from dagster_dlt._facts import Cursor, CursorKind, DeclaredWindow
from dagster_dlt.errors import PartitionedReplaceError, SharedCursorError
from dagster_dlt.loading.plan import Plan
from dagster_dlt.loading.windows import Span, stored_kind, tells_time


@dataclass(frozen=True)
class Findings:
    """What in a source does not go with partitions."""

    #: Resources without a cursor, which return the same for each window.
    unbounded: tuple[str, ...]
    #: Live cursors that no window bounds, by resource.
    shared: Mapping[str, str]
    #: Resources that replace their table.
    replacing: tuple[str, ...]


def findings(
    source: DltSource,
    declared: Mapping[str, DeclaredWindow],
    *,
    by_time: bool,
    write_disposition: object = None,
) -> Findings:
    """Look for what will go wrong when partitions are loaded; costs no I/O.

    Args:
        source: The source; only what is selected counts.
        declared: What users say of the cursors, by resource.
        by_time: The partitions are windows of time.
        write_disposition: What the run has in place of the resources' own.
    """
    unbounded: list[str] = []
    shared: dict[str, str] = {}
    replacing: list[str] = []
    for name, resource in _dlt.selected_resources(source).items():
        feeding = {each.name: each for each in _dlt.lineage(source, resource)}
        own = {each for each in feeding if declared.get(each) == "own"}
        replaces = (write_disposition or _dlt.write_disposition_of(resource)) == "replace"
        if replaces and name not in own:
            replacing.append(name)
        cursors = {each: found for each in feeding if (found := _dlt.cursor_of(feeding[each]))}
        for owner in cursors.keys() - own:
            cursor = cursors[owner]
            if cursor.is_live and not (by_time and kind_of(cursor, declared.get(owner))):
                shared[owner] = cursor.path or "?"
        if by_time and not cursors and not own:
            unbounded.append(name)
    return Findings(tuple(unbounded), shared, tuple(replacing))


def kind_of(cursor: Cursor, declared: DeclaredWindow | None) -> CursorKind | None:
    """Return how a cursor tells time; None where nothing says so, or no window is to bound it."""
    if cursor.path is None or declared == "own":
        return None
    if declared is not None:
        return declared
    if cursor.kind == "text":
        return "text" if tells_time(str(cursor.example)) else None
    return cursor.kind


def check_partition(plan: Plan) -> None:
    """Refuse to load a partition that would do damage to others.

    Raises:
        SharedCursorError: the others would go on from where this one ends.
        PartitionedReplaceError: the others' rows would be deleted.
    """
    partition, window = plan.loader.partition, plan.window
    if (partition is None and window is None) or is_apart(plan):
        return
    found = findings(
        plan.source,
        plan.declared,
        by_time=window is not None,
        write_disposition=_dlt.disposition_in(plan.options.get("write_disposition")),
    )
    if found.shared:
        named = partition or (f"{window.start} to {window.end}" if window else "")
        raise SharedCursorError(named, found.shared, by_time=window is not None)
    if partition and found.replacing and not plan.covers_all:
        raise PartitionedReplaceError(partition, found.replacing)


def bound_cursors(source: DltSource, plan: Plan) -> None:
    """Have a load's own copy of the source load the rows of the window, if there is one."""
    if plan.window is None:
        return
    for resource in source.resources.extracted:
        cursor = _dlt.cursor_of(resource)
        if cursor is None or not cursor.is_live:
            continue
        kind = kind_of(cursor, plan.declared.get(resource.name))
        if kind is not None:
            _dlt.bound(resource, Span(plan.window, kind, cursor.example))


def read_as_a_whole(source: DltSource, plan: Plan) -> set[str]:
    """Return the resources of which a run reads all that is in its partition."""
    if plan.loader.partition is None:
        return set()
    resources = _dlt.selected_resources(source)
    return {
        name
        for name, resource in resources.items()
        if all(_is_whole(each, plan) for each in _dlt.lineage(source, resource))
    }


def told_by(
    source: DltSource,
    declared: Mapping[str, DeclaredWindow],
    columns: Callable[[str], set[str]],
) -> dict[str, tuple[str, CursorKind]]:
    """Return the column by which rows of a resource are told to be within the window, and how.

    Args:
        source: The source.
        declared: What users say of the cursors, by resource.
        columns: Returns the columns of a resource's table, by its name; the column is that of the
            resource's own cursor, if it has one.
    """
    found: dict[str, tuple[str, CursorKind]] = {}
    for name, resource in _dlt.selected_resources(source).items():
        cursor = _dlt.cursor_of(resource)
        kind = kind_of(cursor, declared.get(name)) if cursor else None
        if cursor and kind and cursor.path:
            names = (cursor.path, source.schema.naming.normalize_identifier(cursor.path))
            for column in columns(name).intersection(names):
                found[name] = (column, stored_kind(kind, cursor.example))
    return found


def _is_whole(resource: DltResource, plan: Plan) -> bool:
    if plan.limit or resource.limit is not None:
        return False
    cursor = _dlt.cursor_of(resource)
    if cursor is None or not cursor.is_live:
        return True
    # One that goes on from where it was, rather than being bounded, reads what is new.
    return plan.window is not None and bool(kind_of(cursor, plan.declared.get(resource.name)))


def is_apart(plan: Plan) -> bool:
    """Tell whether the run's partition has a pipeline or a dataset to itself, by its name."""
    partition = plan.loader.partition
    if not partition:
        return False
    return is_named_after(
        partition, plan.given.pipeline_name, plan.dataset or plan.given.dataset_name
    )


def is_named_after(partition: str, *names: str | None) -> bool:
    """Tell whether a partition's key is in one of the names of a pipeline and its dataset."""
    return any(_words(partition) in _words(name) for name in names if name)


def _words(name: str) -> str:
    return f"_{re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')}_"
