"""Where the disk is full, or the memory, nobody's data are to blame, and nothing is thrown away."""

import errno
import os
import resource as limits
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.common.data_writers.buffered import BufferedDataWriter
from dlt.pipeline.pipeline import Pipeline

from sources import assets_of, query

ROWS = 5000


class Shop:
    """A source that counts how often it is asked, and its assets."""

    def __init__(self, pipeline: Pipeline, materialize: Callable[..., Any]) -> None:
        self.calls: Counter[str] = Counter()
        self.pipeline = pipeline
        self._materialize = materialize

    def load(self) -> str | None:
        """Materialize the assets; return what the failure says, if the step fails."""
        assets = assets_of(self.source(), self.pipeline)
        result = self._materialize(assets, raise_on_error=False)
        failed = result.filter_events(lambda event: event.is_step_failure)
        return next((each.step_failure_data.user_failure_data.description for each in failed), None)

    def rows(self) -> list[Any]:
        """Return how many events are loaded, how many of them differ, and how many orders."""
        events = 'select count(*), count(distinct "at") from raw.events'
        return [
            *query(self.pipeline, events)[0],
            *query(self.pipeline, "select id from raw.orders"),
        ]

    def source(self) -> Any:
        @dlt.resource
        def events(at: Any = dlt.sources.incremental("at")) -> Iterator[Any]:
            self.calls["events"] += 1
            start = at.last_value or 0
            yield [{"at": start + row, "text": os.urandom(64).hex()} for row in range(1, ROWS + 1)]

        @dlt.resource
        def orders() -> Iterator[Any]:
            self.calls["orders"] += 1
            yield {"id": 1}

        return dlt.source(lambda: (events, orders), name="shop")()


@pytest.fixture
def shop(pipeline: Pipeline, materialize: Callable[..., Any]) -> Shop:
    return Shop(pipeline, materialize)


@pytest.fixture
def left_over(tmp_path: Path) -> Callable[[], list[Path]]:
    """Return a function that lists the files in the folder of the workspaces."""
    folder = tmp_path / "pipelines" / ".dagster"
    return lambda: [path for path in folder.rglob("*") if path.is_file()]


@contextmanager
def files_of_50_kilobytes_at_most() -> Iterator[None]:
    """Let the system refuse to write more into a file, in this process and those it starts."""
    soft, hard = limits.getrlimit(limits.RLIMIT_FSIZE)
    limits.setrlimit(limits.RLIMIT_FSIZE, (50_000, hard))
    try:
        yield
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_while(step: str) -> Iterator[None]:
    """Let dlt's `step` have no room on the disk."""
    whole = getattr(Pipeline, step)

    def cramped(self: Pipeline, *args: Any, **options: Any) -> Any:
        with files_of_50_kilobytes_at_most():
            return whole(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, step, cramped)
        yield


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Let dlt have no memory to write what it has normalized."""

    def out(*_args: object) -> None:
        raise MemoryError

    whole = Pipeline.normalize

    def cramped(self: Pipeline, *args: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BufferedDataWriter, "_flush_items", out)
            return whole(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "normalize", cramped)
        yield


@contextmanager
def full_in_processes() -> Iterator[None]:
    """Let the processes of dlt's pool have no room on the disk."""
    with pytest.MonkeyPatch.context() as patch, full_while("normalize"):
        patch.setenv("NORMALIZE__WORKERS", "2")
        patch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "1000")  # several files, for several processes
        yield


@pytest.mark.parametrize(
    ("trouble", "runs"),
    [
        (partial(full_while, "normalize"), 1),
        (partial(full_while, "normalize"), 2),  # the second one comes to what the first has left
        (full_in_processes, 1),
        (out_of_memory, 1),
    ],
    ids=["full disk", "full disk again", "full disk in a pool", "no memory"],
)
def test_what_was_extracted_is_kept_where_there_is_no_room_to_normalize_it(
    shop, left_over, trouble, runs
):
    with trouble():
        told = [shop.load() for _ in range(runs)]

    assert all("failed in normalize" in str(text) for text in told)
    assert shop.calls == {"events": 1, "orders": 1}
    assert shop.load() is None
    assert shop.rows() == [2 * ROWS, 2 * ROWS, (1,), (1,)]
    assert shop.calls == {"events": 2, "orders": 2}
    assert left_over() == []


def test_half_of_what_there_was_no_room_for_in_extract_is_removed(shop, left_over):
    with full_while("extract"):
        told = shop.load()

    assert f"[Errno {errno.EFBIG}]" in str(told)
    assert {path.suffix for path in left_over()} <= {".apart"}
    assert shop.load() is None
    assert shop.rows() == [ROWS, ROWS, (1,)]
    assert left_over() == []
