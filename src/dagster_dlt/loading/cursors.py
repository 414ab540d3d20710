"""Incremental cursors in a pipeline's state: what they are, and how an operator moves them."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.errors import RefusedError
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.pending import left_behind, of_resources
from dagster_dlt.loading.pipeline import fresh, kept_by_dlt
from dagster_dlt.loading.site import Site
from dagster_dlt.loading.state import merge
from dagster_dlt.loading.workspace import adopt_state, take

#: What stands in the ledger in place of a run's id.
COMMAND: Final = "dagster-dlt"

#: A change of a pipeline's state, made in place.
Change = Callable[[Any], None]

#: A value of each type that a person can name, for cursors that have none.
KINDS: Final[Mapping[str, Any]] = {
    "int": 0,
    "float": 0.0,
    "str": "",
    "date": date.min,
    "datetime": datetime.min.replace(tzinfo=timezone.utc),
}


@dataclass(frozen=True)
class Cursor:
    """An incremental cursor of a resource."""

    source: str
    resource: str
    #: Path of the field in the rows.
    path: str
    #: The value that the next run starts from; None where it starts from the beginning.
    value: Any = None

    @property
    def kind(self) -> str:
        """The type of the value, as Python calls it."""
        return type(self.value).__name__ if self.value is not None else ""

    def __str__(self) -> str:
        return f"{self.resource}.{self.path}"


def read(text: str, like: Any) -> Any:  # noqa: ANN401 - any type that a cursor has
    """Read a value of the type that `like` has from what a person typed.

    Raises:
        ValueError: it is not of that type.
    """
    if isinstance(like, str):
        return text
    if isinstance(like, datetime | date):
        return _read_time(text, like)
    if isinstance(like, int | float | Decimal) and not isinstance(like, bool):
        try:
            return type(like)(text)
        except (ArithmeticError, ValueError) as error:
            message = f"{text!r} is no {type(like).__name__}"
            raise ValueError(message) from error
    message = f"a value of type {type(like).__name__} cannot be typed"
    raise ValueError(message)


def _read_time(text: str, like: date) -> date:
    if not isinstance(like, datetime):
        return date.fromisoformat(text)
    moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    if like.tzinfo is None and moment.tzinfo is not None:
        message = f"{text!r} has a time zone, and the cursor has none"
        raise ValueError(message)
    if like.tzinfo is not None and moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)  # as dlt takes it
    return moment


def cursors_in(state: Mapping[str, Any]) -> list[Cursor]:
    """Return the cursors that a pipeline's state holds."""
    return [
        Cursor(source, resource, path, value)
        for source in state.get("sources", {})
        for (resource, path), value in _dlt.cursors_of(state, source).items()
    ]


def resources_in(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return source and name of the resources that a pipeline's state knows."""
    return [(source, resource) for source, resource, _ in _resources(state)]


def _resources(state: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for source, kept in state.get("sources", {}).items():
        for resource, own in kept.get("resources", {}).items():
            yield source, resource, own


def moved(cursor: Cursor, value: object) -> Change:
    """Return the change that lets the next run start from a value, rows at it included."""

    def change(state: Any) -> None:  # noqa: ANN401 - dlt's state
        # Without hashes of rows at the value, of which dlt would leave out those it knows.
        _cursors_of(state, cursor).setdefault(
            cursor.path, {"initial_value": None, "start_value": None}
        ).update(last_value=value, unique_hashes=[])

    return change


def forgotten(cursor: Cursor) -> Change:
    """Return the change that lets the next run start from the beginning."""

    def change(state: Any) -> None:  # noqa: ANN401 - dlt's state
        # The resource's own key stays: by it loads that overlap are merged.
        _cursors_of(state, cursor).pop(cursor.path, None)

    return change


def _cursors_of(state: Any, cursor: Cursor) -> Any:  # noqa: ANN401 - a part of dlt's state
    own = state["sources"][cursor.source]["resources"][cursor.resource]
    return own.setdefault("incremental", {})


def state_of(site: Site) -> Mapping[str, Any]:
    """Return the state that the next run of the pipeline begins with; changes nothing."""
    if site.state_dir is not None:
        path = site.state_dir / site.name
        kept = _dlt.state_below(path)
        return kept or _dlt.state_below(kept_by_dlt(site.given) or path)
    with restored(site) as pipeline:
        return pipeline.state


def write(site: Site, change: Change, resources: Collection[str], what: str) -> str | None:
    """Change the pipeline's state, and note it in the ledger.

    Where the destination keeps the state it gets a new version, in a load of its own. It begins
    with what the next run would begin with: also the cursors of loads that overlapped.

    Args:
        site: The pipeline.
        change: What to do with the state.
        resources: Those whose cursors are changed.
        what: What is done, for the ledger.

    Returns:
        The id of the load, or None where only a disk keeps the state, or nothing has changed.

    Raises:
        RefusedError: a load of one of the resources goes on, or waits to be finished.
    """
    refuse_in_flight(site, resources)
    if site.state_dir is not None:
        _write_below(site, site.state_dir, change)
        return None
    with restored(site) as pipeline:
        if not pipeline.schema_names:
            subject = f"Pipeline {site.name!r}"
            raise RefusedError(subject, "has no state yet", "Run it once")
        with pipeline.managed_state(extract_state=True) as state:
            change(state)
        pipeline.normalize()
        load_ids = pipeline.list_normalized_load_packages()
        for load_id in load_ids:
            entry = Entry(
                load_id,
                site.name,
                Loader(COMMAND, what),
                tuple(sorted(resources)),
                schema=pipeline.default_schema.name,
            )
            with site.ledger.loading(entry, site.log) if site.ledger else nullcontext():
                pipeline.load(raise_on_failed_jobs=True)
        return load_ids[0] if load_ids else None


@contextmanager
def restored(site: Site) -> Iterator[Pipeline]:
    """Yield a pipeline in a directory of its own, with the state the next run begins with."""
    # Data in the pipeline's own directory are found from elsewhere by their path.
    file = str(_dlt.file_of(site.given)) if site.home.in_working_dir else None
    with (
        site.quiet({"credentials": file} if file else {}) as pipeline,
        _dlt.active(pipeline),
        site.turn,
    ):
        pipeline.sync_destination()
        if site.ledger:
            merge(pipeline, site.ledger.entries(), site.log)
        yield pipeline


def _write_below(site: Site, path: Path, change: Change) -> None:
    if kept := kept_by_dlt(site.given):
        adopt_state(kept, path / site.name)
    with take(path, permanent_of=site.name) as free:
        if not free:
            subject = f"The state of pipeline {site.name!r}"
            raise RefusedError(subject, "is held by a load", "Wait until it is over")
        pipeline = fresh(site.given, path)
        with _dlt.active(pipeline), pipeline.managed_state() as state:
            change(state)


def refuse_in_flight(site: Site, resources: Collection[str]) -> None:
    """Refuse what a load would undo: one that goes on, or one that waits to be finished."""
    subject = f"Cursors of {', '.join(sorted(resources))} in pipeline {site.name!r}"
    # A load that has read them already has a lease, and is not noted itself before it sends rows.
    for entry in [*site.alive, *site.leases]:
        if set(entry.resources) & set(resources):
            raise RefusedError(
                subject,
                f"are about to be written by run {entry.loader.run_id}, which may be alive",
                "Wait until it is over",
            )
    lefts = left_behind(site)
    waiting = of_resources(lefts, resources)
    if site.state_dir is not None:
        # To abort a package puts the whole state back that was there before it.
        waiting = [each for left in lefts if left.permanent for each in left.waiting]
    if waiting:
        raise RefusedError(
            subject,
            f"are also in load package {waiting[0].load_id}, which waits to be loaded",
            "Resume or abort it first, with `dagster-dlt packages`",
        )
