"""What a run is asked to do: dlt's own options, checked before anything is read or written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from dlt.common.destination import TDestinationReferenceArg
from dlt.common.schema import Schema
from dlt.common.schema.typing import TSchemaContract, TTableFormat, TWriteDispositionConfig
from dlt.common.typing import TColumnNames, TLoaderFileFormat, TRefreshMode
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import DeclaredWindow, Limit, Window
from dagster_dlt.errors import UnknownRunOptionError
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.parking import Parking


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


#: Options that say where the pipeline loads rather than what is extracted.
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


#: How to divide a run: not at all, or by connected resources, in turn or side by side. These are
#: the words of dlt's helper for Airflow.
Decompose = Literal["none", "serialize", "parallel"]


def parts(source: DltSource) -> list[DltSource]:
    """Divide a source into parts that can be loaded by themselves.

    Resources that feed each other stay together, and so do those that write to the same table.
    """
    groups: list[tuple[set[str], set[str]]] = []
    for component in source.decompose("scc"):
        selected = _dlt.selected_resources(component)
        names = set(selected)
        tables = {table for each in selected.values() if (table := _dlt.table_name(each))}
        for other in [group for group in groups if group[1] & tables]:
            groups.remove(other)
            names, tables = names | other[0], tables | other[1]
        groups.append((names, tables))
    order = list(_dlt.selected_resources(source))
    ordered = sorted(sorted(map(order.index, names)) for names, _ in groups)
    return [source.with_resources(*(order[index] for index in part)) for part in ordered]


@dataclass(frozen=True)
class Plan:
    """What one call of `run` is to load, from where, into what, and how.

    Attributes:
        given: The user's pipeline, or one like it that loads elsewhere. It is not run itself.
        source: The source, narrowed to the resources that are to be loaded.
        options: Options of `dlt.Pipeline.run`.
        loader: The step of the Dagster run, which is part of the workspace's scope.
        window: The rows to load by their cursors, if not those that are new.
        declared: What users say of the cursors, by resource.
        covers_all: The run is for all partitions that there are.
        earlier_runs: Ids of the runs that this one goes on with.
        is_over: Tells whether a Dagster run has ended, by its id.
        base: Directory of the workspaces; by default below the pipeline's own.
        parking: Where packages that wait are put, so that another machine can finish them.
        on_pending: What to do with packages that an earlier run left.
        decompose: How to divide the run.
        max_workers: How many parts are loaded side by side, at most.
        is_retry: The step was tried before in this run, and `source` is what is left of it.
        limit: Where to stop reading each resource.
        workers: Workers by stage (`extract`, `normalize`, `load`) in place of dlt's configuration.
        dataset: The dataset's name without what a branch adds to it; by default that of `given`.
    """

    given: Pipeline
    source: DltSource
    options: RunOptions
    loader: Loader
    window: Window | None = None
    declared: Mapping[str, DeclaredWindow] = field(default_factory=dict)
    covers_all: bool = False
    earlier_runs: frozenset[str] = frozenset()
    is_over: Callable[[str], bool] = lambda _run: False
    base: Path | None = None
    parking: Parking | None = None
    on_pending: OnPending = "resume"
    decompose: Decompose = "none"
    max_workers: int = 4
    is_retry: bool = False
    limit: Limit | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    dataset: str | None = None

    @property
    def refresh(self) -> TRefreshMode | None:
        """The refresh mode, of the run or of the pipeline."""
        mode: TRefreshMode | None = self.options.get("refresh") or self.given.refresh
        return mode
