"""Where runs in several processes meet before they send what they have read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runs import Plan

#: Seconds between two looks at who is there.
LOOK: Final = 0.005


@dataclass(frozen=True)
class Meeting:
    """A folder in which each run says that it came, and somebody else that it is over.

    All have read what they load before one of them sends it. Then they go on in the order of the
    plan, each once there are few enough before it. Nobody waits for one that is not here: it may
    wait itself, for something that one of those who are here has.
    """

    plan: Plan
    folder: Path

    def arrive(self, number: int) -> None:
        """Wait until this run may go on; one that came before, or was killed here, does not."""
        if not self._say("came", number):
            return
        awaited = len({run.takes_turns_as for run in self.plan.runs})
        _wait_for(lambda: len(self._said("came")) >= awaited)
        rank = {number: rank for rank, number in enumerate(self.plan.order)}
        first = rank[number] - self.plan.lag
        _wait_for(lambda: all(rank[other] > first for other in self._there()))

    def leave(self, number: int) -> None:
        """Take note that a run is over, whether or not it ever came."""
        self._say("came", number)
        self._say("left", number)

    def _there(self) -> set[int]:
        return self._said("came") - self._said("left")

    def _say(self, what: str, number: int) -> bool:
        try:
            (self.folder / f"{what} {number}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _said(self, what: str) -> set[int]:
        words = (path.name.split() for path in self.folder.iterdir())
        return {int(number) for said, number in words if said == what}


def _wait_for(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(LOOK)
