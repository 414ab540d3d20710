"""The pipeline of one load, so that the user's object is never run or changed."""

from pathlib import Path
from typing import Any

import dlt
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.branch import Branch
from dagster_dlt.loading.plan import PIPELINE_OPTIONS, RunOptions


def directed(given: Pipeline, options: RunOptions) -> Pipeline:
    """Return a pipeline like `given` that loads where a run is to load; it is not to be run.

    Everything that is derived from the destination and the dataset is to be derived from this one:
    the workspace, the ledger, what waits, which cursors count.

    Args:
        given: The user's pipeline.
        options: Options of `dlt.Pipeline.run`.
    """
    if not PIPELINE_OPTIONS & options.keys():
        return given
    return _dlt.directed(
        given,
        destination=options.get("destination"),
        credentials=options.get("credentials"),
        staging=options.get("staging"),
        dataset_name=options.get("dataset_name"),
    )


def of_branch(pipeline: Pipeline, branch: Branch) -> Pipeline:
    """Return a pipeline like another one that loads into the dataset of a branch, in its place.

    Raises:
        BranchDatasetError: the branch cannot have a dataset of its own.
    """
    other = _dlt.directed(pipeline)
    # Set, not passed: a layout or suffix from the configuration is in the name already.
    other.dataset_name = branch.dataset_of(other)
    return other


def fresh(given: Pipeline, room: Path) -> Pipeline:
    """Return a new pipeline that is like `given` in everything, and can be run.

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
        "destination": given.destination and _dlt.remembering(given.destination),
        "staging": given.staging,
        "import_schema_path": import_path,
        "export_schema_path": export_path,
        "refresh": given.refresh,
        "progress": given.collector,
    }
    with _dlt.leaving_active_pipeline():
        pipeline = dlt.pipeline(**like_given, _impl_cls=_dlt.class_of(given))
    _dlt.keep_staged_files(pipeline)
    pipeline.config = given.config
    # Set, not passed: a layout or suffix from the configuration is in this name already. And set in
    # the state, from which dlt takes the name back at every step.
    with pipeline.managed_state():
        pipeline.dataset_name = given.dataset_name
    _dlt.keep_notes(pipeline)
    return pipeline


def kept_by_dlt(given: Pipeline) -> Path | None:
    """Return dlt's own working directory, if cursors there are those of what `given` loads.

    They are of one destination and dataset. Those of production are not for a branch.
    """
    working_dir = Path(given.working_dir)
    state = _dlt.state_below(working_dir)
    there = (state.get("destination_name"), state.get("dataset_name"))
    here = (_dlt.destination_name(given), given.dataset_name)
    return working_dir if all(a in {None, b} for a, b in zip(there, here, strict=True)) else None
