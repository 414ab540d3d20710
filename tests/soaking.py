"""What the long versions of the tests have in common: a folder, a pool, and what they print."""
# ruff: noqa: T201 - talks to a person on a terminal

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nursery import Nursery

V = TypeVar("V", bound=Any)


@contextmanager
def nursery_for(script: Path, *, keep: bool) -> Iterator[tuple[Path, Nursery]]:
    """Yield a new folder, and the nursery of a script; remove the folder unless it is to stay."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    nursery = Nursery(script)
    try:
        yield folder, nursery
    finally:
        nursery.close()
        if keep:
            print(f"\n{folder}")
        else:
            shutil.rmtree(folder)


def play_all(play: Callable[..., V], games: Sequence[tuple[Any, str]], jobs: int) -> list[V]:
    """Play games, so many at a time, and show as it happens what comes of them."""

    def played(game: tuple[Any, str]) -> V:
        verdict = play(*game)
        print(f"\n{verdict}\n" if verdict.problems else ".", end="", flush=True)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(played, games))


def conclude(verdicts: Sequence[Any], what: str, began: float) -> bool:
    """Print how to play damaged ones again, and a summary; return whether all is well."""
    damaged = [verdict for verdict in verdicts if verdict.problems]
    for verdict in damaged:
        print(verdict.plan.command)
    minutes, seconds = divmod(time.monotonic() - began, 60)
    print(f"\n{len(verdicts)} {what}, {len(damaged)} damaged, {minutes:.0f}:{seconds:02.0f}")
    return not damaged
