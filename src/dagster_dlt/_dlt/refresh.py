"""What a refresh would take away, by dlt's own word."""

from copy import deepcopy

from dlt.common.typing import TRefreshMode
from dlt.extract import DltSource
from dlt.pipeline.drop import prepare_drop_resources
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._facts import Drops


def has_all_resources(source: DltSource) -> bool:
    """Tell whether nothing of `source` is left out when it is extracted."""
    return set(source.resources) <= extracted_names(source)


def extracted_names(source: DltSource) -> set[str]:
    """Return the names of the resources that are extracted, loaded or only feeding others."""
    return {resource.name for resource in source.resources.extracted}


def dropped_by(pipeline: Pipeline, source: DltSource, mode: TRefreshMode) -> Drops:
    """Return what dlt will drop, or empty, when `source` is extracted with a refresh."""
    name = source.schema.name
    if name not in pipeline.schema_names:
        return Drops()  # never loaded: dlt has nothing to drop either
    # As dlt prepares it, on copies: it changes both in place.
    state, everything = deepcopy(pipeline.state), mode == "drop_sources"
    found = prepare_drop_resources(
        pipeline.schemas[name].clone(),
        deepcopy(state),
        resources=[] if everything else sorted(extracted_names(source)),
        drop_all=everything,
        state_paths="*" if everything else [],
        state_only=mode == "drop_data",
    )
    own = state.get("sources", {}).get(name, {}).get("resources", {})
    return Drops(
        tables=tuple(sorted(table["name"] or "" for table in found.modified_tables)),
        cursors=tuple(
            f"{resource}.{path}" if path else resource
            for resource in sorted(found.info["resource_states"])
            for path in own[resource].get("incremental", {}) or [""]
        ),
    )
