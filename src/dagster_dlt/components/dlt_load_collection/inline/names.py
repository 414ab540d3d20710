"""Names that assets have: known when definitions are loaded, and the same when a load runs."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dagster_dlt.components.dlt_load_collection.inline.environment import (
    Missing,
    Variables,
    Waiting,
)
from dagster_dlt.errors import InvalidLoadError


def named(given: object, names: AbstractSet[str], load: str) -> Any:  # noqa: ANN401 - YAML
    """Return what YAML says with the templates of names filled in.

    Args:
        given: What the YAML says.
        names: Fields that are names, or lists of them.
        load: The load, for errors.

    Raises:
        InvalidLoadError: one asks for a variable that is not set.
    """
    if isinstance(given, list):
        return [named(inner, names, load) for inner in given]
    if not isinstance(given, Mapping):
        return given
    found = {}
    for key, inner in given.items():
        below = inner if key in _OF_OTHERS else named(inner, names, load)
        found[key] = _known(below, load) if key in names else below
    return found


#: Blocks whose names are no assets'.
_OF_OTHERS: Final = frozenset({"arguments", "client", "credentials"})


def _known(given: object, load: str) -> object:
    if isinstance(given, list):
        return [_known(inner, load) for inner in given]
    if not isinstance(given, Waiting):
        return given
    try:
        return given.filled(Variables())
    except Missing as missing:
        problem = (
            f"asks for environment variable {missing.variable!r}, which is not set. Assets are "
            "named by it, so it has to be known where definitions are loaded. Set it there, or "
            f"give it a default: env('{missing.variable}', '...')."
        )
        raise InvalidLoadError(load, given.field, problem) from None
