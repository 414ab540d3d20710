"""What a run is asked to do: dlt's own options, checked before anything is read or written."""

from typing import Any, TypedDict

from dlt.common.destination import TDestinationReferenceArg
from dlt.common.schema import Schema
from dlt.common.schema.typing import TSchemaContract, TTableFormat, TWriteDispositionConfig
from dlt.common.typing import TColumnNames, TLoaderFileFormat, TRefreshMode

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
