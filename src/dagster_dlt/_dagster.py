"""Every private Dagster name we use, each with its reason; the only file that may."""

import dagster as dg

# `dagster` offers the registry without exporting it by name, so type checkers do not see it there.
from dagster_shared.libraries import DagsterLibraryRegistry


def register_library(name: str, version: str) -> None:
    """Tell Dagster that the library is there, as its own libraries do.

    Without the flag Dagster would warn at every import that our version is not its own.
    """
    DagsterLibraryRegistry.register(name, version, is_dagster_package=False)


def retry_number(context: dg.OpExecutionContext) -> int:
    """Return how often the step was tried before; 0 where a test calls the function directly."""
    try:
        return context.retry_number
    except AttributeError:  # the context of a direct call has no step to ask
        return 0


def loads_several_partitions(context: dg.OpExecutionContext) -> bool:
    """Tell whether the run is for a range of partitions; a direct call never is."""
    try:
        return context.has_partitions and not context.has_partition_key
    except AttributeError:  # as above
        return False
