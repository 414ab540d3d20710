"""What a run is asked to do: dlt's own options, checked before anything is read or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from dlt.common.destination import TDestinationReferenceArg
from dlt.common.schema import Schema
from dlt.common.schema.typing import TSchemaContract, TTableFormat, TWriteDispositionConfig
from dlt.common.typing import TColumnNames, TLoaderFileFormat, TRefreshMode
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt.errors import UnknownRunOptionError


class RunOptions(TypedDict, total=False):
    """The options of `dlt.Pipeline.run`, which `DagsterDltResource.run` passes on.

    What they mean is dlt's to say: https://dlthub.com/docs/api_reference/dlt/pipeline.
    """

    destination: TDestinationReferenceArg
    staging: TDestinationReferenceArg
    dataset_name: str
    credentials: Any
    table_name: str
    write_disposition: TWriteDispositionConfig
    columns: Any
    primary_key: TColumnNames
    schema: Schema
    loader_file_format: TLoaderFileFormat
    table_format: TTableFormat
    schema_contract: TSchemaContract
    refresh: TRefreshMode


#: Options that describe the pipeline rather than what is extracted.
PIPELINE_OPTIONS = frozenset({"destination", "staging", "dataset_name", "credentials"})


def check_options(options: RunOptions) -> None:
    """Refuse options that dlt's `Pipeline.run` does not have.

    Raises:
        UnknownRunOptionError: names the first unknown option and the nearest right one.
    """
    known = RunOptions.__annotations__
    for option in options:
        if option not in known:
            raise UnknownRunOptionError(option, sorted(known))


def extract_options(options: RunOptions) -> dict[str, Any]:
    """Return the options that dlt's `extract` takes."""
    return {name: value for name, value in options.items() if name not in PIPELINE_OPTIONS}


#: What to do with load packages that an earlier run left: finish them, throw them away, or stop.
OnPending = Literal["resume", "abort", "fail"]


@dataclass(frozen=True)
class Plan:
    """What one call of `run` is to load, from where, into what, and how.

    Attributes:
        given: The user's pipeline, which is not run itself.
        source: The source, narrowed to the resources that are to be loaded.
        options: Options of `dlt.Pipeline.run`.
        step: Dagster's key of the step, which is part of the workspace's scope.
        partition: Key of the partition, or the range of keys.
        base: Directory of the workspaces; by default below the pipeline's own.
        on_pending: What to do with packages that an earlier run left.
        is_retry: The step was tried before in this run, and `source` is what is left of it.
    """

    given: Pipeline
    source: DltSource
    options: RunOptions
    step: str
    partition: str | None = None
    base: Path | None = None
    on_pending: OnPending = "resume"
    is_retry: bool = False
