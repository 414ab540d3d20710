"""Where the runs of a game load, and how Dagster is told of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dagster as dg
import dlt
from runs import LIVE, PARTED, PARTITIONS, Destination, Run, shop

from dagster_dlt import DagsterDltResource, dlt_assets

DATASET: Final = "raw"
PIPELINE: Final = "shop"


@dataclass(frozen=True)
class Place:
    """A destination, and the directory in which the runs work."""

    destination: Destination
    url: str
    disk: Path

    def job(
        self, run: Run, saw: Callable[[str, Any], None], met: Callable[[], None]
    ) -> dg.JobDefinition:
        """Define a job that loads what a run has selected.

        Args:
            run: The run.
            saw: Takes the name of a resource and the cursor that it begins with.
            met: Called when the cursor has been read, and before the rows are on their way.
        """
        source = shop(run, delta=self.destination == "delta", saw=saw, met=met)

        @dlt_assets(
            dlt_source=source.with_resources(*(PARTED if run.partition else LIVE)),
            dlt_pipeline=dlt.pipeline(
                PIPELINE,
                pipelines_dir=str(self.disk),
                destination=self._dlt_destination(),
                dataset_name=DATASET,
            ),
            name="load_parted" if run.partition else "load_live",
            partitions_def=dg.StaticPartitionsDefinition(PARTITIONS) if run.partition else None,
        )
        def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Any:
            yield from dlt_resource.run(context)

        selected = dg.AssetSelection.assets(*(f"dlt_shop_{name}" for name in run.resources))
        definitions = dg.Definitions(
            assets=[load],
            jobs=[dg.define_asset_job("run", selected, executor_def=dg.in_process_executor)],
            # Without the second Dagster refuses to go on with a run whose steps were all done.
            resources={"dlt_resource": DagsterDltResource(), "io_manager": dg.fs_io_manager},
        )
        return definitions.resolve_job_def("run")

    def _dlt_destination(self) -> Any:
        if self.destination == "duckdb":
            return dlt.destinations.duckdb(self.url)
        if self.destination == "postgres":
            return dlt.destinations.postgres(self.url)
        return dlt.destinations.filesystem(self.url)
