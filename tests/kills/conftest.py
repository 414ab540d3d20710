"""The histories of this folder's tests, played two at a time while the tests wait for theirs."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from history import Places, Verdict
from plan import Cell

from nursery import Nursery

#: Processes at a time: each keeps one core busy, and CI has two.
AT_A_TIME = 2


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(Path(__file__).with_name("project.py"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def places(tmp_path_factory, nursery, postgres) -> Places:
    return Places(tmp_path_factory.mktemp("kills"), nursery, postgres)


@pytest.fixture(scope="session")
def verdict_of(request, places) -> Iterator[Callable[[Cell, str], Verdict]]:
    """Return a function that waits for the verdict on a history that a test of this run names."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    games = [each.params["game"] for each in calls if "game" in each.params]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        verdicts: dict[tuple[Cell, str], Future[Verdict]] = {
            game: pool.submit(places.play, *game) for game in games
        }
        yield lambda *game: verdicts[game].result()
        pool.shutdown(cancel_futures=True)
