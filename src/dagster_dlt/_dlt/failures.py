"""Errors: which resource failed, why, and whether the package can go on."""

import errno
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Final

from dlt.common.exceptions import DltException, SignalReceivedException, TerminalException
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.schemas import normalized_table_name, root_of
from dagster_dlt._dlt.secrets import remember_secrets
from dagster_dlt._dlt.sources import selected_resources, table_name
from dagster_dlt._facts import ResourceFailure
from dagster_dlt._redaction import redacted, redacted_error

# What the errors of drivers are made of: that of PEP 249, and of libraries that have their own.
_DRIVER_ERRORS = frozenset(
    {"Error", "SQLAlchemyError", "GoogleAPIError", "GoogleAuthError", "BotoCoreError"}
)

# What DuckDB says of a file that another process has open, and who that is where it can tell.
_LOCKED = re.compile(
    r"Could not set lock on file .+?: (?:Conflicting lock is held in (?P<holder>.+? \(PID \d+\)))?",
    re.DOTALL,
)
_NUMBERED: Final = re.compile(r"^\w*Error: \[Errno (\d+)\]", re.MULTILINE)
_OUT_OF_MEMORY: Final = re.compile(r"^(?:\w+\.)*\w*MemoryError\b", re.MULTILINE)


def failure_of(error: PipelineStepFailed, pipeline: Pipeline, source: DltSource) -> ResourceFailure:
    """Say which resource of `source` the error is about, and why, by what its causes carry."""
    remember_secrets(source)
    causes = list(_chain(error))
    named = _first_attribute(causes, "pipe_name")
    table = _first_attribute(causes, "table_name") or _table_of_job(causes)
    wanted = selected_resources(source)
    resource = named or (_resource_of_table(pipeline, source, table) if table else None)
    return ResourceFailure(
        resource=resource if resource in wanted else None,
        stage=error.step,
        held_back=tuple(name for name in wanted if name != resource),
        table=table,
        load_id=error.load_id,
        cause=first_cause(error),
        pipelines_dir=pipeline.pipelines_dir if pipeline.has_pending_data else None,
        error=redacted_error(error),
    )


def comes_from_outside(error: BaseException) -> bool:
    """Tell whether dlt, the system or a driver has raised an error, rather than a mistake of ours.

    dlt wraps what a driver raises in a query, but not always what it raises when it connects.
    """
    return isinstance(error, DltException | OSError) or any(
        each.__name__ in _DRIVER_ERRORS and each.__bases__[-1:] == (Exception,)
        for each in type(error).__mro__
    )


def holder_of_file(error: BaseException) -> str | None:
    """Return which program has a DuckDB file open, if that is why it cannot be opened."""
    for each in _chain(error):
        if found := _LOCKED.search(str(each)):
            return found["holder"] or "another program"
    return None


def first_cause(error: BaseException) -> str:
    """Return type and text of what an error began with."""
    *_, first = _chain(error)
    return f"{type(first).__name__}: {redacted(first)}".rstrip(".")


def _first_attribute(causes: Sequence[BaseException], name: str) -> str | None:
    return next((str(value) for each in causes if (value := getattr(each, name, None))), None)


def _table_of_job(causes: Sequence[BaseException]) -> str | None:
    job = _first_attribute(causes, "job_id")
    return job.split(".", 1)[0] if job else None


def _resource_of_table(pipeline: Pipeline, source: DltSource, table: str) -> str | None:
    for schema in (source.schema, *(pipeline.schemas[name] for name in pipeline.schema_names)):
        root = root_of(schema.tables, table)
        if root and root.get("resource"):
            return str(root["resource"])
    # A table that the failure kept from getting into the schema.
    for name, resource in selected_resources(source).items():
        given = table_name(resource)
        if given and normalized_table_name(source.schema, given) == table:
            return name
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    yield error
    below = error.exception if isinstance(error, PipelineStepFailed) else error.__cause__
    if below is None and not error.__suppress_context__:
        below = error.__context__
    if below is not None:
        yield from _chain(below)


def can_be_resumed(error: PipelineStepFailed) -> bool:
    """Tell whether a load that failed with `error` may succeed if it is simply continued.

    What dlt calls terminal fails again, and so does what fails in normalize, unless the system
    had no room for it there; the rest is an outage. To be asked to stop is none of these, although
    dlt calls it terminal.
    """
    if any(isinstance(cause, SignalReceivedException) for cause in _chain(error)):
        return True
    if error.step == "normalize":
        return any(map(_comes_from_the_system, _chain(error)))
    return not any(isinstance(cause, TerminalException) for cause in _chain(error))


def _comes_from_the_system(cause: BaseException) -> bool:
    """Tell whether a full disk, too little memory or the like is the cause, and not the data.

    A file that is not there is missing from the package, and what has no number is raised by a
    library that cannot read one.
    """
    if isinstance(cause, OSError):
        return cause.errno not in {None, errno.ENOENT}
    if isinstance(cause, MemoryError | BrokenExecutor):
        return True
    # What a process of a pool raised is known by its traceback alone.
    text = str(cause) if type(cause).__name__ == "_RemoteTraceback" else ""
    numbers = {int(number) for number in _NUMBERED.findall(text)}
    return bool(numbers - {errno.ENOENT} or _OUT_OF_MEMORY.search(text))
