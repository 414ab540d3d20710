"""The secrets that dlt has resolved, so that they can be taken out of texts."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dlt.common.configuration import is_secret_hint
from dlt.common.configuration.inject import get_fun_last_config
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.configuration.utils import get_resolved_traces
from dlt.extract import DltResource, DltSource
from dlt.extract.reference import SourceFactory

from dagster_dlt._dlt.sources import AnySource, function_of
from dagster_dlt._redaction import is_secret_name, remember

# Fields of a configuration that say where data are or who writes them. They are shown, and may
# have the same value as somebody's password.
_PUBLIC_FIELDS = frozenset(
    {"catalog", "database", "dataset_name", "destination_name", "destination_type", "drivername"}
    | {"host", "role", "schema", "user", "username", "warehouse"}
)


def remember_secrets(made: AnySource | None = None) -> None:
    """Remember what is never to be shown of what dlt has resolved in this thread.

    dlt notes what it resolves by thread, and forgets it at the end of each step. What was passed to
    a source function explicitly it does not note: that is in the last configuration of the
    function, or in a variable that the functions of the resources see.

    Args:
        made: A source that was built just now, or the function that builds it.
    """
    for trace in get_resolved_traces().resolved_traces:
        if is_secret_hint(trace.hint) or is_secret_name(trace.key):
            remember({trace.key: trace.value})
    if made is None:
        return
    function = made if isinstance(made, SourceFactory) else getattr(made, "_factory", None)
    _remember_last_config(function)
    if isinstance(made, DltSource):
        remember(public=[made.name, *made.resources])
        for resource in made.resources.values():
            _remember_arguments(resource)


def _remember_last_config(function: Callable[..., Any] | None) -> None:
    config = get_fun_last_config(function) if function else None
    if config:
        remember_config(config)


def _remember_arguments(resource: DltResource) -> None:
    function = function_of(resource)
    if function is None:
        return
    _remember_last_config(function)
    given = dict(resource._explicit_args or {})
    inner = inspect.unwrap(function)
    if inspect.isfunction(inner):
        for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
            with suppress(ValueError):  # nothing is in the cell yet
                given[name] = cell.cell_contents
    remember({name: value for name, value in given.items() if is_secret_name(name)})


def remember_config(config: BaseConfiguration) -> None:
    """Remember the values of secret fields, and what is shown of the others."""
    for name, hint in config.get_resolvable_fields().items():
        value = getattr(config, name, None)
        if isinstance(value, BaseConfiguration):
            remember_config(value)
        elif is_secret_hint(hint) or is_secret_name(name) or isinstance(value, Mapping):
            remember({name: value})
        elif name in _PUBLIC_FIELDS:
            remember(public=[value])
