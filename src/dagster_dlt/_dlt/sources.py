"""Resources: what they are called, what feeds them, where their rows go."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from dlt.common.schema import Schema
from dlt.extract import DltResource, DltSource
from dlt.extract.reference import SourceFactory

#: A dlt source, or a function decorated with `@dlt.source` that was not called yet.
AnySource = DltSource | SourceFactory[Any, Any]


def root_resource_name(resource: DltResource) -> str:
    """Return the name of the resource at the head of the chain that feeds `resource`.

    dlt says publicly that a resource is a transformer, but not whose, so we walk the pipes.
    """
    pipe = resource._pipe
    while pipe.has_parent:
        pipe = pipe.parent
    return str(pipe.name)


def parent_resource_name(resource: DltResource) -> str | None:
    """Return the name of the resource that feeds the transformer `resource`, if it is one."""
    return str(resource._pipe.parent.name) if resource.is_transformer else None


def can_be_repeated(resource: DltResource) -> bool:
    """Tell whether the resource can be extracted again from its beginning.

    One that is made of a generator cannot: what an attempt has taken from it is gone.
    """
    return not isinstance(resource._pipe.gen, Iterator | AsyncIterator)


def function_of(resource: DltResource) -> Callable[..., Any] | None:
    """Return the function behind `resource`, or None where it is made of data.

    dlt copies `__wrapped__` onto a resource made of a function; `__doc__` alone would not tell,
    since any resource answers it with the text of dlt's own class.
    """
    function = vars(resource).get("__wrapped__")
    return function if inspect.isfunction(function) else None


def docstring(resource: DltResource) -> str | None:
    """Return the documentation of the function behind `resource`."""
    text = vars(resource).get("__doc__")
    return inspect.cleandoc(text) if isinstance(text, str) and text.strip() else None


def table_name(resource: DltResource) -> str | None:
    """Return the name of the table as the resource gives it, or None if rows decide."""
    return resource.table_name if isinstance(resource.table_name, str) else None


def disposition_in(given: object) -> object:
    """Return what becomes of the rows that are there, by a write disposition in either form."""
    return given.get("disposition") if isinstance(given, Mapping) else given


def write_disposition_of(resource: DltResource) -> object:
    """Return what becomes of the rows that are there; None where the rows decide."""
    disposition = disposition_in(resource.write_disposition)
    return None if callable(disposition) else disposition


def table_format_of(resource: DltResource) -> object:
    """Return the table format that `resource` asks for, if it does."""
    return (resource._hints or {}).get("table_format")


def is_appended(resource: DltResource) -> bool:
    """Tell whether rows of `resource` are added to those that are there, whatever they are."""
    disposition = write_disposition_of(resource)
    hints: Mapping[str, Any] = resource._hints or {}
    keyed = hints.get("primary_key") or hints.get("merge_key")
    return disposition == "append" or (disposition == "merge" and not keyed)


def table_hint(resource: DltResource, name: str) -> object:
    """Return an additional table hint (`x-…`) of `resource`, or None.

    `compute_table_schema()` would answer publicly, but not for tables that rows decide.
    """
    hints: Mapping[str, Any] = (resource._hints or {}).get("additional_table_hints") or {}
    return hints.get(name)


def selected_resources(source: DltSource) -> dict[str, DltResource]:
    """Return the selected resources of `source` by name, in their order."""
    return dict(source.selected_resources)


def no_source() -> DltSource:
    """Return a source without resources, for what is loaded without the one it came from."""
    return DltSource(Schema("nothing"), "nothing", [])
