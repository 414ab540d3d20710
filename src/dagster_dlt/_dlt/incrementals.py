"""Incrementals: the cursor of a resource, and how it is bounded for one load."""

import inspect
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import date, datetime
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.extract import DltResource, DltSource
from dlt.extract.incremental import Incremental, IncrementalResourceWrapper
from dlt.extract.incremental.context import TimeIntervalContext

from dagster_dlt._dlt.bounded import Span, bounded
from dagster_dlt._facts import Cursor, CursorKind, Window


def lineage(source: DltSource, resource: DltResource) -> list[DltResource]:
    """Return a resource and those that feed it, also those that the source does not list."""
    found, pipe = [], resource._pipe
    while pipe is not None and not pipe.is_empty:
        found.append(source.resources.with_pipe(pipe))
        pipe = pipe.parent
    return found


def cursor_of(resource: DltResource) -> Cursor | None:
    """Return the cursor of a resource, if it has one, as its code gives it."""
    given = _incremental_of(resource)
    if given is None:
        return None
    # To dlt 1.30 everybody has said so.
    can_opt_out = Incremental.allow_external_schedulers is None
    opted_out = can_opt_out and given.allow_external_schedulers is False
    return Cursor(
        path=given.cursor_path,
        example=given.initial_value,
        kind=_kind_of(given, resource) if given.last_value_func in (min, max) else None,
        is_descending=given.last_value_func is min,
        is_live=given.end_value is None and not opted_out,
    )


def bound(resource: DltResource, span: Span) -> None:
    """Have a resource load the rows of a window, and leave its live cursor where it is.

    Whatever it is cloned from stays as it is.
    """
    given = _incremental_of(resource)
    if given is None:
        return
    _renew(resource)
    resource.apply_hints(incremental=bounded(given, span))


@contextmanager
def interval(window: Window | None) -> Iterator[None]:
    """Let `dlt.current.interval()` say what is loaded; its incrementals are not to join by it."""
    if window is None:
        yield
        return
    context = TimeIntervalContext((window.start, window.end), allow_external_schedulers=False)
    with Container().injectable_context(context):
        yield


# --- what the code says --------------------------------------------------------------------------


def _incremental_of(resource: DltResource) -> Incremental[Any] | None:
    """Return the incremental of a resource as it will be, before dlt makes it at extraction."""
    step: Any = resource.incremental
    if step is None or isinstance(step, Incremental):
        return step
    # A load in this process may have left one in the wrapper, which clones share.
    if step._from_hints:
        return typing.cast("Incremental[Any] | None", step.incremental)
    original = _function_of(resource)
    signature = inspect.signature(original)
    parameter = IncrementalResourceWrapper.get_incremental_arg(signature)
    if parameter is None:
        return None
    args, kwargs = _bound_arguments(resource)
    if resource.is_transformer:
        args = (None, *args)
    given = signature.bind_partial(*args, **kwargs).arguments
    found = _merged(parameter, given.get(parameter.name, parameter.default))
    if found is not None and not hasattr(found, "__orig_class__"):
        annotation = _annotation(original, parameter)
        if annotation is not None:
            found.__orig_class__ = annotation
    return found


def _merged(parameter: inspect.Parameter, given: Any) -> Incremental[Any] | None:  # noqa: ANN401 - an argument
    # Copied shallowly: to make one, dlt compiles its path, which takes half a millisecond.
    default = parameter.default
    if given is None:
        return None
    if isinstance(given, Incremental):
        if given is default or not isinstance(default, Incremental):
            return copy(given)
        return default.merge(given)
    if isinstance(default, Incremental):
        found = copy(default)
        found.initial_value = given
        return found
    # No default, or `dlt.config.value`: it comes from the configuration, which is not read here.
    return (
        None if given is parameter.empty and _is_optional(parameter) else dlt.sources.incremental()
    )


def _is_optional(parameter: inspect.Parameter) -> bool:
    return type(None) in typing.get_args(parameter.annotation)


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:  # noqa: ANN401 - a type
    """Return `Incremental[T]` as the parameter is annotated with it."""
    hint: Any = parameter.annotation
    if isinstance(hint, str):
        try:
            hint = typing.get_type_hints(function).get(parameter.name)
        except (NameError, TypeError, AttributeError):
            return None
    for each in (hint, *typing.get_args(hint)):
        origin = typing.get_origin(each)
        if isinstance(origin, type) and issubclass(origin, Incremental):
            return each
    return None


def _kind_of(given: Incremental[Any], resource: DltResource) -> CursorKind | None:
    """Return how the values tell time: by the first one, the type, or the hint of the column."""
    column = _column(given, resource)
    example = given.initial_value
    kind: Any = given.get_incremental_value_type() if example is None else type(example)
    if kind is Any:
        kind = {"timestamp": datetime, "date": date}.get(column.get("data_type", ""))
    if not isinstance(kind, type):
        return None
    if issubclass(kind, datetime):
        has_zone = example is None or example.tzinfo is not None
        return "datetime" if has_zone and column.get("timezone", True) else "local_datetime"
    if issubclass(kind, date):
        return "date"
    return "text" if isinstance(example, str) else None


def _column(given: Incremental[Any], resource: DltResource) -> dict[str, Any]:
    """Return the hints of the cursor's column, as far as they do not depend on rows."""
    columns: Any = resource.columns
    found = columns.get(given.cursor_path) if isinstance(columns, dict) else None
    return dict(found or {})


def _function_of(resource: DltResource) -> Callable[..., Any]:
    # dlt keeps the function under what it wraps it in, to unwrap it when a resource is cloned.
    gen = resource._pipe.gen
    return typing.cast("Callable[..., Any]", getattr(gen, "__GEN__", gen))


def _wrappers(resource: DltResource) -> Iterator[Any]:
    """Yield what dlt has wrapped around the function of a resource, from outside."""
    gen: Any = resource._pipe.gen
    function = _function_of(resource)
    while gen is not None and gen is not function:
        yield gen
        gen = getattr(gen, "__wrapped__", None)


def _bound_arguments(resource: DltResource) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the resource was called with; `explicit_args` are wrong for transformers."""
    for wrapper in _wrappers(resource):
        inside = inspect.getclosurevars(wrapper).nonlocals
        if {"args", "kwargs"} <= inside.keys():
            return inside["args"], inside["kwargs"]
    return (), {}


def _is_parallelized(resource: DltResource) -> bool:
    return any(
        each.__code__.co_name in {"_gen_wrapper", "_fun_wrapper"} for each in _wrappers(resource)
    )


# --- the incremental of one load -----------------------------------------------------------------


def _renew(resource: DltResource) -> None:
    """Give a resource a wrapper of its own, in which dlt keeps the incremental of an extraction.

    Clones of a source share it with each other: loads in one process would bound each other.
    """
    pipe = resource._pipe
    if not hasattr(pipe.gen, "__GEN__"):
        return
    original, is_bound = _function_of(resource), resource.args_bound
    (args, kwargs), is_parallelized = _bound_arguments(resource), _is_parallelized(resource)
    resource._remove_incremental_step()
    pipe.replace_gen(original)
    resource._inject_config()
    if is_bound:
        pipe.bind_gen(*args, **kwargs)
    if is_parallelized:
        resource.parallelize()
