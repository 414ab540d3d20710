"""A fresh dlt pipeline for one execution, so that the user's object is never run or changed."""

from pathlib import Path
from typing import Any

import dlt
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.plan import RunOptions


def fresh(given: Pipeline, options: RunOptions, room: Path) -> Pipeline:
    """Return a new pipeline that is like `given` in everything, with the run's own options.

    The name stays: it is the identity of the pipeline's state at the destination. The working
    directory is below `room`, dlt's `pipelines_dir`, so that no other load shares it.
    `dev_mode` is not passed on, since its effect, a dataset name with a suffix, is already in
    the name that `given` has, and passing it would add a second suffix.
    """
    import_path, export_path = _dlt.schema_paths(given)
    # `Any`: dlt's annotations leave out that each of these may be None.
    like_given: dict[str, Any] = {
        "pipeline_name": given.pipeline_name,
        "pipelines_dir": str(room),
        "pipeline_salt": given.pipeline_salt,
        "destination": _dlt.with_credentials(
            options.get("destination") or given.destination, options.get("credentials")
        ),
        "staging": options.get("staging") or given.staging,
        "dataset_name": options.get("dataset_name"),
        "import_schema_path": import_path,
        "export_schema_path": export_path,
        "refresh": given.refresh,
        "progress": given.collector,
    }
    with _dlt.leaving_active_pipeline():
        pipeline = dlt.pipeline(**like_given, _impl_cls=_dlt.class_of(given))
    _dlt.keep_staged_files(pipeline)
    pipeline.config = given.config
    if not options.get("dataset_name"):
        # Set, not passed: a layout or suffix from the configuration is in this name already. And
        # set in the state, from which dlt takes the name back at every step.
        with pipeline.managed_state():
            pipeline.dataset_name = given.dataset_name
    _dlt.keep_notes(pipeline)
    return pipeline
