"""`schedule:`, when the assets of a load are materialized."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import dagster as dg
from pydantic import Field

from dagster_dlt.components.dlt_load_collection.inline.form import Form, checked
from dagster_dlt.errors import InvalidLoadError

#: Of classes that Dagster does not export, until a repository resolves them.
AnyJob: TypeAlias = Any
AnySchedule: TypeAlias = Any


class DltLoadSchedule(Form):
    """When a load runs. Time partitions say so themselves, by default when one is over.

    Example:
        >>> from dagster_dlt import DltLoadSchedule
        >>> DltLoadSchedule(cron="0 6 * * *", timezone="Europe/Paris").status
        'stopped'
    """

    short_for: ClassVar[str | None] = "cron"

    cron: str | None = Field(
        None, description="Cron expression. Not needed for time partitions.", examples=["0 6 * * *"]
    )
    timezone: str | None = Field(
        None, description="Time zone of the cron expression.", examples=["Europe/Paris"]
    )
    status: Literal["running", "stopped"] = Field(
        "stopped", description="Whether it runs before somebody starts it."
    )


def schedule_form(given: object, load: str) -> DltLoadSchedule:
    """Return the schedule that YAML describes.

    Raises:
        InvalidLoadError: a field is unknown or wrong.
    """
    return checked(DltLoadSchedule, given, load, "schedule")


def scheduled(
    assets: dg.AssetsDefinition, form: DltLoadSchedule, load: str
) -> tuple[AnyJob, AnySchedule]:
    """Return a job of all assets of a load, and its schedule.

    Raises:
        InvalidLoadError: Dagster refuses the schedule, or nothing says when it is.
    """
    name, partitions = assets.op.name, assets.partitions_def
    if not assets.keys:
        raise InvalidLoadError(load, "schedule", "has no assets: the source selects no resource")
    job = dg.define_asset_job(f"{name}_job", selection=dg.AssetSelection.assets(*assets.keys))
    try:
        return job, _schedule(f"{name}_schedule", job, form, partitions)
    except dg.DagsterError as error:
        raise InvalidLoadError(load, "schedule", str(error)) from error


def _schedule(
    name: str,
    job: AnyJob,
    form: DltLoadSchedule,
    partitions: dg.PartitionsDefinition[str] | None,
) -> AnySchedule:
    cron, timezone = form.cron, form.timezone
    by_time = isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition) and cron is None:
        cron, timezone = partitions.get_cron_schedule(), timezone or partitions.timezone
    if cron is None:
        message = "has no cron, and the load has no time partitions that would say when it runs"
        raise dg.DagsterInvalidDefinitionError(message)
    when: dict[str, Any] = {
        "cron_schedule": cron,
        "execution_timezone": timezone,
        "default_status": dg.DefaultScheduleStatus[form.status.upper()],
    }
    if partitions is None:
        return dg.ScheduleDefinition(name=name, job=job, **when)
    return dg.schedule(name=name, job=job, **when)(_requests(partitions, last_only=by_time))


def _requests(
    partitions: dg.PartitionsDefinition[str], *, last_only: bool
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    """Return what asks for the last partition that is over, or for all that are not times."""

    def evaluate(
        context: dg.ScheduleEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        moment = context.scheduled_execution_time
        keys: Sequence[str] = partitions.get_partition_keys(current_time=moment)
        if not keys:
            yield dg.SkipReason("No partition is over yet.")
        for key in keys[-1:] if last_only else keys:
            # With the time: a run key that was there before is not run again.
            yield dg.RunRequest(run_key=f"{key}@{moment.isoformat()}", partition_key=key)

    return evaluate
