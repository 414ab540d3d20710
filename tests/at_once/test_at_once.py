"""Whatever runs load at once, what is there in the end is what they leave one after the other.

`make soak-at-once` plays more of these, and can play one again.
"""

import random

import pytest
from runs import CELLS

from seeds import seeds

# A game takes seconds: each commit plays one for each destination, and many commits play all.
GAMES = [
    (random.Random(seed).choice([cell for cell in CELLS if cell.destination == each]), seed)  # noqa: S311
    for each in dict.fromkeys(cell.destination for cell in CELLS)
    for seed in seeds(1)
]


@pytest.mark.parametrize("game", GAMES, ids=lambda game: f"{game[0]} {game[1]}")
def test_runs_at_once_leave_what_they_leave_one_by_one(game, field):
    verdict = field.play(*game)

    assert not verdict.problems, str(verdict)
