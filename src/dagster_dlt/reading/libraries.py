"""Libraries that are imported only where somebody wants what they make."""

from importlib import import_module
from typing import Any

from dagster_dlt.errors import LibraryNotInstalledError


def library(name: str) -> Any:  # noqa: ANN401 - a module, whose types need not be installed
    """Return a library.

    Raises:
        LibraryNotInstalledError: it cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise LibraryNotInstalledError(name, str(error)) from error
