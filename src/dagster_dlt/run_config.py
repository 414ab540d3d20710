"""`DltRunConfig`: what a person may choose for one run, in the launchpad or in a `RunConfig`."""

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import dagster as dg
from dlt.common.typing import TRefreshMode
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator
from typing_extensions import Self

from dagster_dlt._facts import Limit, Window
from dagster_dlt.errors import RunConfigError
from dagster_dlt.loading.plan import Decompose, OnPending, RunOptions

#: dlt's words, without `skip`: what is not to be loaded is left out of `resources`.
_Dispositions = Literal["append", "replace", "merge"]


def _choice(name: str, words: object) -> type[Enum]:
    """Return an enum of the words of a `Literal`.

    Dagster offers its words in the launchpad, and checks them when a run is launched; a `Literal`
    that may be left out it refuses. The values are plain words all the same.
    """
    made = Enum(name, {word: word for word in get_args(words)}, type=str)  # type: ignore[misc] # made of values
    return cast("type[Enum]", made)


if TYPE_CHECKING:
    _Refresh: TypeAlias = TRefreshMode
    _Disposition: TypeAlias = _Dispositions
    _OnPending: TypeAlias = OnPending
    _Decompose: TypeAlias = Decompose
else:
    _Refresh = _choice("DltRefresh", TRefreshMode)
    _Disposition = _choice("DltWriteDisposition", _Dispositions)
    _OnPending = _choice("DltOnPending", OnPending)
    _Decompose = _choice("DltDecompose", Decompose)


class DltLimit(dg.Config):
    """Where to stop reading each resource: dlt's `add_limit`.

    Example:
        >>> from dagster_dlt import DltLimit
        >>> DltLimit(max_items=10).max_items
        10
    """

    max_items: PositiveInt | None = Field(
        default=None,
        description="Stop after this many items: what the resource yields, often a page.",
    )
    max_time: PositiveFloat | None = Field(
        default=None, description="Stop after this many seconds."
    )
    count_rows: bool = Field(
        default=False, description="Let max_items count rows. The page it is reached in is kept."
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.max_items is None and self.max_time is None:
            message = "limit has neither max_items nor max_time: give one of them, or no limit"
            raise ValueError(message)
        return self

    def facts(self) -> Limit:
        """Return the limit as a plain value."""
        return Limit(self.max_items, self.max_time, self.count_rows)


class DltWindow(dg.Config):
    """The time to load: rows whose cursor is at `start` or later, and before `end`.

    Example:
        >>> from dagster_dlt import DltWindow
        >>> DltWindow(start="2024-01-01", end="2024-02-01T00:00:00+01:00").end
        '2024-02-01T00:00:00+01:00'
    """

    start: str = Field(description="First moment, in ISO 8601. Without an offset it is UTC.")
    end: str = Field(description="First moment after it, in ISO 8601. Without an offset it is UTC.")

    @field_validator("start", "end", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, datetime) else value

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not _moment(self.start) < _moment(self.end):
            message = f"window ends at {self.end!r}, which is not after its start, {self.start!r}"
            raise ValueError(message)
        return self

    def facts(self) -> Window:
        """Return the window as a plain value."""
        return Window(_moment(self.start), _moment(self.end))


class DltWorkers(dg.Config):
    """How many workers each stage has; what is left out is as dlt's configuration says.

    Example:
        >>> from dagster_dlt import DltWorkers
        >>> DltWorkers(load=1).load
        1
    """

    extract: PositiveInt | None = Field(
        default=None,
        description="Threads that extract parallelized resources: dlt's extract.workers.",
    )
    normalize: PositiveInt | None = Field(
        default=None, description="Processes that normalize: dlt's normalize.workers."
    )
    load: PositiveInt | None = Field(
        default=None, description="Jobs that load at the same time: dlt's load.workers."
    )

    def facts(self) -> Mapping[str, int]:
        """Return the workers that were chosen, by stage."""
        chosen = {"extract": self.extract, "normalize": self.normalize, "load": self.load}
        return {stage: workers for stage, workers in chosen.items() if workers is not None}


class DltRunConfig(dg.Config):
    """What may be chosen for one run. What is left out is as the definition says.

    An asset function that takes it as `config` has these fields in the launchpad; `run` finds them
    by itself. `DagsterDltResource` has the same fields, for functions that take no config.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DltLimit, DltRunConfig
        >>> run_config = dg.RunConfig(
        ...     ops={"shop_assets": DltRunConfig(limit=DltLimit(max_items=10), resources=["a"])}
        ... )
    """

    model_config = ConfigDict(use_enum_values=True)

    refresh: _Refresh | None = Field(
        default=None,
        description=(
            "Begin anew: drop the tables of the source (drop_sources) or of the resources that are "
            "loaded (drop_resources), or empty them (drop_data), and forget their cursors."
        ),
    )
    write_disposition: _Disposition | None = Field(
        default=None, description="How rows are written to the tables of all resources of this run."
    )
    limit: DltLimit | None = Field(default=None, description="Where to stop reading each resource.")
    resources: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of the dlt resources to load, among those whose assets are selected.",
    )
    window: DltWindow | None = Field(
        default=None,
        description="The time to load, in a run without partitions. Cursors stay in place.",
    )
    on_pending: _OnPending | None = Field(
        default=None,
        description="What to do with load packages that an earlier run left: resume, abort, fail.",
    )
    decompose: _Decompose | None = Field(
        default=None,
        description=(
            "Load resources as one package (none), or in parts, each reported once it is in: one "
            "after the other (serialize) or side by side (parallel)."
        ),
    )
    max_workers: PositiveInt | None = Field(
        default=None, description="How many parts are loaded side by side, at most."
    )
    workers: DltWorkers | None = Field(default=None, description="Workers of each of dlt's stages.")
    dry_run: bool | None = Field(
        default=None,
        description="Only say what would be done. Nothing is loaded, written or materialized.",
    )


def description_of(field: str) -> str | None:
    """Return what the launchpad says of a field."""
    return DltRunConfig.model_fields[field].description


def chosen_in(values: Mapping[str, Any]) -> DltRunConfig:
    """Return what was chosen, from the values that Dagster has for a class with these fields."""
    known = DltRunConfig.model_fields.keys() & values.keys()
    return DltRunConfig(**{name: values[name] for name in known})


def merged(*choices: DltRunConfig) -> DltRunConfig:
    """Return for each field the first choice that was made."""
    return DltRunConfig(
        **{
            name: next(
                (value for each in choices if (value := getattr(each, name)) is not None), None
            )
            for name in DltRunConfig.model_fields
        }
    )


def refuse_unsafe(
    chosen: DltRunConfig, refresh: str | None, partition: str | None, *, alone: bool
) -> None:
    """Refuse choices that would lose rows together, or in a run of a partition.

    Args:
        chosen: What was chosen.
        refresh: dlt's refresh mode in this run, wherever it comes from.
        partition: The partition of the run, if it has one.
        alone: There are no rows of other partitions.

    Raises:
        RunConfigError: says which, and why.
    """
    replaces = chosen.write_disposition == "replace"
    anew = "refresh" if refresh else "write_disposition 'replace'" if replaces else None
    if partition is not None and anew and not alone:
        field, problem, remedy = (
            anew,
            f"would take away the rows of all partitions, and the run is for {partition!r}",
            "Leave it out, or load all partitions in one run",
        )
    elif partition is not None and chosen.window:
        field, problem, remedy = (
            "window",
            f"is given to a run of partition {partition!r}, which says itself what is loaded",
            "Leave it out, or select other partitions",
        )
    elif chosen.window and anew:
        field, problem, remedy = (
            "window",
            f"is given together with {anew}, which takes away the rows outside of it as well",
            "Choose one of them",
        )
    else:
        return
    raise RunConfigError(field, problem, remedy)


def with_options(options: RunOptions, chosen: DltRunConfig) -> RunOptions:
    """Return options of `run` with what was chosen in their place."""
    found = options.copy()
    if chosen.refresh:
        found["refresh"] = chosen.refresh
    if chosen.write_disposition:
        found["write_disposition"] = chosen.write_disposition
    return found


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
