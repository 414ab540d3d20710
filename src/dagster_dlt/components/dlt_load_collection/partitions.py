"""What `partitions_def:` and `backfill_policy:` look like in YAML.

The forms and field names are those that Dagster documents for its own components.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import dagster as dg
from pydantic import BaseModel, Field


class _TimeWindows(dg.Model):
    start_date: str = Field(description="Start of the first partition.", examples=["2024-01-01"])
    end_date: str | None = Field(None, description="End of the last partition, if there is one.")
    timezone: str | None = Field(
        None, description="Time zone of the partitions, by default UTC.", examples=["Europe/Paris"]
    )


class HourlyPartitions(_TimeWindows):
    """A partition for each hour."""

    type: Literal["hourly"]
    minute_offset: int = Field(0, description="Minute at which a partition starts.")


class DailyPartitions(_TimeWindows):
    """A partition for each day."""

    type: Literal["daily"]
    minute_offset: int = Field(0, description="Minute at which a partition starts.")
    hour_offset: int = Field(0, description="Hour at which a partition starts.")


class WeeklyPartitions(_TimeWindows):
    """A partition for each week."""

    type: Literal["weekly"]
    minute_offset: int = Field(0, description="Minute at which a partition starts.")
    hour_offset: int = Field(0, description="Hour at which a partition starts.")
    day_offset: int = Field(0, description="Day on which a partition starts; 0 is Sunday.")


class MonthlyPartitions(_TimeWindows):
    """A partition for each month."""

    type: Literal["monthly"]
    minute_offset: int = Field(0, description="Minute at which a partition starts.")
    hour_offset: int = Field(0, description="Hour at which a partition starts.")
    day_offset: int = Field(1, description="Day of the month on which a partition starts.")


class TimeWindowPartitions(_TimeWindows):
    """A partition for each tick of a cron schedule."""

    type: Literal["time_window"]
    fmt: str = Field(description="Format of the partition keys.", examples=["%Y-%m-%d"])
    cron_schedule: str = Field(description="When partitions start.", examples=["0 6 * * *"])


class StaticPartitions(dg.Model):
    """A fixed list of partitions."""

    type: Literal["static"]
    partition_keys: Sequence[str] = Field(
        description="The partition keys.", examples=[["north", "south"]]
    )


class SingleRun(dg.Model):
    """Backfills are one run for all partitions."""

    type: Literal["single_run"]


class MultiRun(dg.Model):
    """Backfills are several runs."""

    type: Literal["multi_run"]
    max_partitions_per_run: int = Field(1, description="How many partitions one run loads.")


# The discriminator keeps errors short: only the form that `type` names is spoken of.
PartitionsForm = Annotated[
    HourlyPartitions
    | DailyPartitions
    | WeeklyPartitions
    | MonthlyPartitions
    | TimeWindowPartitions
    | StaticPartitions,
    Field(discriminator="type"),
]
BackfillForm = Annotated[SingleRun | MultiRun, Field(discriminator="type")]

_PARTITIONS: Final[Mapping[str, Callable[..., dg.PartitionsDefinition[str]]]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
    "time_window": lambda start_date, end_date=None, **others: dg.TimeWindowPartitionsDefinition(
        start=start_date, end=end_date, **others
    ),
    "static": dg.StaticPartitionsDefinition,
}
_BACKFILLS: Final[Mapping[str, Callable[..., dg.BackfillPolicy]]] = {
    "single_run": dg.BackfillPolicy.single_run,
    "multi_run": dg.BackfillPolicy.multi_run,
}


def resolve_partitions_def(
    context: dg.ResolutionContext, form: BaseModel | None
) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions that the YAML form describes."""
    if form is None:
        return None
    fields = _filled_in(context, form)
    return _PARTITIONS[fields.pop("type")](**fields)


def resolve_backfill_policy(
    context: dg.ResolutionContext, form: BaseModel | None
) -> dg.BackfillPolicy | None:
    """Return the backfill policy that the YAML form describes."""
    if form is None:
        return None
    fields = _filled_in(context, form)
    return _BACKFILLS[fields.pop("type")](**fields)


def _filled_in(context: dg.ResolutionContext, form: BaseModel) -> dict[str, Any]:
    """Return the fields that are set, with their templates rendered."""
    fields = form.model_dump(exclude_none=True)
    return {name: _rendered(context.at_path(name), value) for name, value in fields.items()}


def _rendered(context: dg.ResolutionContext, value: object) -> object:
    if isinstance(value, list | tuple):
        return [_rendered(context, item) for item in value]
    # Rendering reads what looks like a number as one, so partition key "1" may not go through it.
    if isinstance(value, str) and "{{" in value:
        return str(context.resolve_value(value, as_type=str))
    return value
