"""What a run would do, found out without doing any of it."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import Drops
from dagster_dlt._redaction import redacted
from dagster_dlt.loading.cursors import Cursor, cursors_in, restored
from dagster_dlt.loading.extraction import refresh_of, replaces, told_limit
from dagster_dlt.loading.pending import left_behind
from dagster_dlt.loading.pipeline import fresh, kept_by_dlt
from dagster_dlt.loading.plan import Plan, parts
from dagster_dlt.loading.site import Site, site_of
from dagster_dlt.loading.workspace import FOLDER


@dataclass(frozen=True)
class Preview:
    """What a run would do."""

    #: `<destination>/<database>.<dataset>`, as far as it is known.
    target: str
    resources: tuple[str, ...]
    #: Cursors that the resources would start from.
    cursors: tuple[Cursor, ...]
    #: What is lost before anything is loaded.
    drops: Drops
    #: Load packages of earlier runs that would be dealt with first.
    pending: tuple[str, ...]
    #: Resources that would be loaded together, in one package.
    packages: tuple[tuple[str, ...], ...]

    def told(self, plan: Plan) -> dict[str, Any]:
        """Return it in words, with what `plan` says itself, for JSON and for the log."""
        window = plan.window
        told = {
            "target": self.target,
            "resources": [*self.resources],
            "packages": [[*names] for names in self.packages] if len(self.packages) > 1 else None,
            "window": f"{window.start} <= cursor < {window.end}" if window else None,
            "write_disposition": plan.options.get("write_disposition"),
            "limit": told_limit(plan) if plan.limit else None,
            "cursors": {str(each): redacted(str(each.value)) for each in self.cursors},
            "refresh": refresh_of(plan, plan.source),
            "dropped_tables": [*self.drops.tables],
            "forgotten_cursors": [*self.drops.cursors],
            "pending_packages": [*self.pending],
            "on_pending": plan.on_pending if self.pending else None,
            "workers": dict(plan.workers),
        }
        return {name: value for name, value in told.items() if value}


def preview(plan: Plan, log: logging.Logger) -> Preview:
    """Find out what a run would do. Only reads, and opens no file that is not there yet.

    Args:
        plan: What the run is asked to do.
        log: Where to say that a file is waited for.
    """
    base = plan.base or Path(plan.given.pipelines_dir) / FOLDER
    site = site_of(plan.given, log, base=base, is_over=plan.is_over)
    with _as_it_is(site) as pipeline:
        names = _dlt.extracted_names(plan.source)
        name = plan.source.schema.name
        cursors = [
            each
            for each in (cursors_in(pipeline.state) if pipeline else [])
            if each.source == name and each.resource in names
        ]
        drops = _drops(plan, pipeline) if pipeline else Drops()
    location = _dlt.location_of(plan.given)
    return Preview(
        target="/".join(filter(None, (_dlt.destination_name(plan.given), ".".join(location.path)))),
        resources=tuple(_dlt.selected_resources(plan.source)),
        cursors=tuple(each for each in cursors if str(each) not in drops.cursors),
        drops=drops,
        pending=tuple(_pending(plan, site)),
        packages=tuple(_packages(plan)),
    )


@contextmanager
def _as_it_is(site: Site) -> Iterator[Pipeline | None]:
    """Yield a pipeline with the state and schemas that a run would begin with, if there are any."""
    file = _dlt.file_of(site.given)
    if file is not None and not file.exists():
        yield None  # to open it would create it
        return
    if site.state_dir is None:
        with restored(site) as pipeline:
            yield pipeline
        return
    kept: Path | None = site.state_dir / site.name
    if kept and not kept.exists():
        kept = kept_by_dlt(site.given)  # from where a run would take it over
    with TemporaryDirectory(prefix="dagster-dlt-") as elsewhere:
        copy = Path(elsewhere) / site.name
        copy.mkdir()
        if kept and (kept / "state.json").is_file():
            shutil.copy2(kept / "state.json", copy)
        if kept and (kept / "schemas").is_dir():
            shutil.copytree(kept / "schemas", copy / "schemas")
        yield fresh(site.given, Path(elsewhere))


def _drops(plan: Plan, pipeline: Pipeline) -> Drops:
    if mode := refresh_of(plan, plan.source):
        return _dlt.dropped_by(pipeline, plan.source, mode)
    if replaced := replaces(plan, plan.source):
        return _dlt.dropped_by(pipeline, plan.source.with_resources(*replaced), "drop_data")
    return Drops()


def _pending(plan: Plan, site: Site) -> Iterator[str]:
    """Yield what waits for this step, on this disk and where it is parked."""
    loader = plan.loader
    for left in left_behind(site):
        origin = left.origin
        own = origin is not None and (origin.step, origin.partition) == (
            loader.step,
            loader.partition,
        )
        if left.permanent or (left.fits and own):
            yield from (each.load_id for each in left.waiting)
    if plan.parking:
        scope = replace(site.scope, step=loader.step, partition=loader.partition)
        yield from plan.parking.archives(scope)


def _packages(plan: Plan) -> Iterator[tuple[str, ...]]:
    divided: list[DltSource] = parts(plan.source) if plan.decompose != "none" else [plan.source]
    for each in divided:
        yield tuple(_dlt.selected_resources(each))
