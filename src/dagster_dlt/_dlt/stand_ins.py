"""What stands for sources and pipelines in definitions: like them in all that is asked there.

A stand-in source has resources with the hints that are known, and gives no rows. A stand-in
pipeline knows its name, destination and dataset, and has no directory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from functools import lru_cache, partial
from typing import Any, Final, NoReturn, TypeGuard, cast

import dlt
from dlt.common.pipeline import TPipelineState
from dlt.common.schema import Schema
from dlt.common.storages import FileStorage, SchemaStorageConfiguration
from dlt.extract import DltResource, DltSource
from dlt.extract.incremental import Incremental
from dlt.pipeline.pipeline import Pipeline
from dlt.pipeline.state_sync import default_pipeline_state
from typing_extensions import override

from dagster_dlt._dlt.destinations import leaving_active_pipeline
from dagster_dlt._dlt.incrementals import cursor_of
from dagster_dlt._dlt.nested import NESTED_TABLES, nested_tables_known
from dagster_dlt._dlt.promises import known_columns, references_of
from dagster_dlt._dlt.sources import docstring, parent_resource_name, table_hint, table_name
from dagster_dlt._facts import CursorValue, KnownCursor, KnownResource

#: A value of each type that a cursor may have, from which dlt tells the type.
_EXAMPLES: Final[Mapping[str, Any]] = {
    "datetime": datetime(1970, 1, 1, tzinfo=timezone.utc),
    "local_datetime": datetime(1970, 1, 1),  # noqa: DTZ001 - one without a zone
    "date": date(1970, 1, 1),
    "text": "1970-01-01",
    "integer": 0,
    "number": 0.0,
    "unknown": None,
}
#: What of a column's hints is said of the whole resource in another place.
_KEYS: Final = ("primary_key", "merge_key")
_SAID_ELSEWHERE: Final = frozenset({"name", "incremental", *_KEYS})


# --- sources -------------------------------------------------------------------------------------


def known_resources(source: DltSource) -> list[KnownResource]:
    """Return what definitions need to know of the selected resources of a source."""
    return [_known(resource, source) for resource in source.selected_resources.values()]


def stand_in_source(name: str, resources: Sequence[KnownResource]) -> DltSource:
    """Return a source that is like the one with these resources, and gives no rows."""
    by_name = {each.name: each for each in resources}
    made: dict[str, DltResource] = {}
    for each in resources:
        _make(each, by_name, made)
    source = DltSource(Schema(name), name, list(made.values()))
    # Those that only feed others are there, and no assets.
    source.resources.select(*by_name)
    return source


class _NoRows(Iterator[NoReturn]):
    """What nobody is to ask for rows."""

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def __next__(self) -> NoReturn:
        message = f"{self._name!r} stands for a resource that is built when it runs"
        raise RuntimeError(message)


def _make(
    known: KnownResource, by_name: Mapping[str, KnownResource], made: dict[str, DltResource]
) -> DltResource:
    if known.name in made:
        return made[known.name]

    # Not a function: for each of these dlt makes a class, which takes a while.
    rows = _NoRows(known.name)

    def of_another(_row: object) -> NoReturn:
        next(rows)

    if known.parent is None:
        resource = dlt.resource(rows, name=known.name)
    else:
        above = by_name.get(known.parent, KnownResource(known.parent))
        parent = _make(above, by_name, made)
        resource = dlt.transformer(of_another, data_from=parent, name=known.name)
    _give_hints(resource, known)
    made[known.name] = resource
    return resource


def _give_hints(resource: DltResource, known: KnownResource) -> None:
    vars(resource)["__doc__"] = known.description
    # It has no code: what is behind it is the function that makes the source.
    vars(resource).pop("__wrapped__", None)
    table_hints = dict(known.table_hints)
    if known.nested_tables:
        table_hints[NESTED_TABLES] = list(known.nested_tables)
    given: dict[str, Any] = {
        "table_name": (lambda _item: known.name) if known.is_dynamic else known.table_name,
        "write_disposition": known.write_disposition,
        "primary_key": list(known.primary_key) or None,
        "merge_key": list(known.merge_key) or None,
        "columns": {name: {"name": name, **hints} for name, hints in known.columns.items()} or None,
        "additional_table_hints": table_hints or None,
        "schema_contract": known.schema_contract,
        "incremental": _incremental(known.cursor) if known.cursor else None,
    }
    resource.apply_hints(**{name: value for name, value in given.items() if value is not None})
    if known.references:
        # `apply_hints` would keep one reference to each table.
        hints = cast("Any", resource._hints)
        hints["references"] = [dict(each) for each in known.references]
    for place in known.inputs:
        resource.add_input(cast("Any", dict(place)))


@lru_cache
def _incremental(cursor: KnownCursor) -> Incremental[Any]:
    # Shared, since it is never used: to make one, dlt compiles its path, which takes a while.
    example = _EXAMPLES[cursor.value]
    options: dict[str, Any] = {"cursor_path": cursor.path, "initial_value": example}
    if not cursor.is_live:
        options["end_value"] = 0 if example is None else example
    return Incremental(last_value_func=min if cursor.is_descending else max, **options)


def _known(resource: DltResource, source: DltSource) -> KnownResource:
    columns = known_columns(resource)
    keys = {key: tuple(name for name, hints in columns.items() if hints.get(key)) for key in _KEYS}
    disposition: Any = resource.write_disposition
    hint: Any = table_hint(resource, "x-dagster")
    contract: Any = resource.schema_contract
    return KnownResource(
        name=resource.name,
        table_name=None if resource.table_name == resource.name else table_name(resource),
        is_dynamic=callable(resource.table_name),
        description=docstring(resource),
        parent=parent_resource_name(resource),
        write_disposition=None if callable(disposition) else disposition,
        primary_key=keys["primary_key"],
        merge_key=keys["merge_key"],
        columns={name: own for name, hints in columns.items() if (own := _own_hints(hints))},
        cursor=_known_cursor(resource),
        inputs=tuple({**place} for place in resource.inputs),
        table_hints={"x-dagster": hint} if hint is not None else {},
        nested_tables=tuple(nested_tables_known(resource, source, None)),
        references=tuple({**each} for each in references_of(resource)),
        schema_contract=None if callable(contract) else contract,
    )


def _own_hints(column: Mapping[str, Any]) -> dict[str, Any]:
    return {hint: value for hint, value in column.items() if hint not in _SAID_ELSEWHERE}


def _known_cursor(resource: DltResource) -> KnownCursor | None:
    cursor = cursor_of(resource)
    if cursor is None:
        return None
    types: dict[type, CursorValue] = {int: "integer", float: "number", str: "text"}
    kind = cast("CursorValue | None", cursor.kind)
    value = kind or types.get(type(cursor.example), "unknown")
    return KnownCursor(cursor.path, value, cursor.is_descending, cursor.is_live)


# --- pipelines -----------------------------------------------------------------------------------


def names_its_pipeline(function: object) -> TypeGuard["partial[Pipeline]"]:
    """Tell whether a function is `dlt.pipeline` with arguments, which tell of the pipeline."""
    return isinstance(function, partial) and function.func is dlt.pipeline


def stand_in_pipeline(function: "partial[Pipeline]") -> Pipeline:
    """Return the pipeline that `dlt.pipeline` would return, without its directory."""
    make: Any = dlt.pipeline
    with leaving_active_pipeline():
        made: Pipeline = make(*function.args, **function.keywords, _impl_cls=_StandIn)
    return made


def class_of(pipeline: Pipeline) -> type[Pipeline]:
    """Return the class of a pipeline that can be run in place of this one."""
    return Pipeline if isinstance(pipeline, _StandIn) else type(pipeline)


class _StandIn(Pipeline):
    """A pipeline without a directory: what dlt resolves, and nothing of what it keeps."""

    @override
    def _init_working_dir(self, pipeline_name: str, pipelines_dir: str) -> None:
        # dlt would remove what is in the directory here, for a pipeline in development mode.
        wanted, self.dev_mode = self.dev_mode, False
        super()._init_working_dir(pipeline_name, pipelines_dir)
        self.dev_mode = wanted

    @override
    def _configure(
        self, import_schema_path: str, export_schema_path: str, *_: object, **__: object
    ) -> None:
        self.attached_pipeline = False
        self._pipeline_storage = FileStorage(self.working_dir, makedirs=False)
        self._schema_storage_config = SchemaStorageConfiguration(
            schema_volume_path="",
            import_schema_path=import_schema_path,
            export_schema_path=export_schema_path,
        )

    @override
    @contextmanager
    def managed_state(self, *, extract_state: bool = False) -> Iterator[TPipelineState]:
        yield default_pipeline_state()
