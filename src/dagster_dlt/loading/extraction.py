"""Extract a source as the run says: with dlt's options, a limit, and a refresh."""

import logging
from collections.abc import Mapping

from dlt.common.typing import TRefreshMode
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import Drops
from dagster_dlt.loading.plan import Plan, extract_options

#: What a refresh does, by its mode.
_DOES = {"drop_sources": "drops", "drop_resources": "drops", "drop_data": "empties"}


def extract(
    plan: Plan,
    pipeline: Pipeline,
    source: DltSource,
    *,
    owed: Mapping[str, TRefreshMode],
    log: logging.Logger,
) -> None:
    """Extract `source`, whose resources may be changed; say before what will be lost by it.

    Args:
        plan: What the run is asked to do.
        pipeline: The pipeline, with the state and schemas of the destination.
        source: The source.
        owed: Resources whose refresh has begun and was never committed, with its mode.
        log: Where to say it.
    """
    if plan.limit:
        limit = plan.limit
        log.warning("%s", told_limit(plan))
        for resource in source.resources.extracted:
            if not resource.is_transformer:
                resource.add_limit(limit.max_items, limit.max_time, limit.count_rows)
    refresh = refresh_of(plan, source, owed)
    if refresh:
        if plan.refresh and refresh != plan.refresh:
            log.warning(
                "Refresh %s acts as %s: not all resources of source %r are loaded, and tables of "
                "the others stay.",
                plan.refresh,
                refresh,
                source.name,
            )
        log.warning("%s", told_refresh(refresh, _dlt.dropped_by(pipeline, source, refresh)))
    elif replaced := replaces(plan, source):
        # With what is replaced dlt resets cursors too.
        drops = _dlt.dropped_by(pipeline, source.with_resources(*replaced), "drop_data")
        log.info("%s", told_replace(drops))
    pipeline.extract(source, **{**extract_options(plan.options), "refresh": refresh})


def refresh_of(
    plan: Plan, source: DltSource, owed: Mapping[str, TRefreshMode] | None = None
) -> TRefreshMode | None:
    """Return the mode in which `source`, or a part of it, is refreshed.

    `drop_sources` drops all tables of the schema, also those of resources that are not loaded.
    """
    names = _dlt.extracted_names(source)
    found = [mode for name, mode in (owed or {}).items() if name in names]
    mode = plan.refresh or next(iter(found), None)
    if mode == "drop_sources" and not _dlt.has_all_resources(source):
        return "drop_resources"
    return mode


def replaces(plan: Plan, source: DltSource) -> list[str]:
    """Return the resources that are replaced because the run says so."""
    if plan.options.get("write_disposition") != "replace":
        return []
    resources = _dlt.selected_resources(source)
    return [name for name, each in resources.items() if each.write_disposition != "replace"]


def told_refresh(mode: TRefreshMode, drops: Drops) -> str:
    """Return what a refresh takes away, in words."""
    return (
        f"Refresh {mode} {_DOES[mode]} tables {', '.join(drops.tables) or 'none'} "
        f"and forgets cursors {', '.join(drops.cursors) or 'none'}."
    )


def told_replace(drops: Drops) -> str:
    """Return what is replaced, in words."""
    return (
        "write_disposition 'replace' of this run replaces all rows of tables "
        f"{', '.join(drops.tables) or 'none'} and forgets cursors "
        f"{', '.join(drops.cursors) or 'none'}."
    )


def told_limit(plan: Plan) -> str:
    """Return what a limit does, in words."""
    limit = plan.limit
    if limit is None:
        return ""
    unit = "rows" if limit.count_rows else "items"
    ends = [f"{limit.max_items} {unit}"] if limit.max_items else []
    ends += [f"{limit.max_time:g} seconds"] if limit.max_time else []
    return (
        f"Limit: each resource is read up to {' or '.join(ends)}. Tables that are replaced or "
        "refreshed hold no more afterwards, and cursors go on behind what was read."
    )
