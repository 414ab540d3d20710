"""However often a load is killed, what is loaded in the end is what one without a kill has loaded.

The processes are real, and end by SIGKILL: between any two statements, files or rows, with the
working directory kept or lost. `make soak` plays more of these, and can play one again.
"""

import pytest
from plan import CELLS

from seeds import seeds

GAMES = [(cell, seed) for cell in CELLS for seed in seeds(2)]

#: Moments at which something was damaged once, or would be if what follows it were forgotten.
DANGEROUS = {
    "duckdb-kept": ["job committed:again", "job committed:retry", "completing:new"],
    "duckdb-lost": ["packed:again", "job noted:new", "completed:again", "reported:again"],
    "postgres-kept": [
        "marked:again",
        "item:again",
        "job committed:new",
        "completed:again",
        "reporting:again",
    ],
    "postgres-lost": ["normalized:new", "job committed:again", "loaded:again"],
}
GAMES += [(cell, point) for cell in CELLS for point in DANGEROUS[str(cell)]]


@pytest.mark.parametrize("game", GAMES, ids=lambda game: f"{game[0]} {game[1]}")
def test_a_history_with_kills_ends_like_one_without(game, verdict_of):
    verdict = verdict_of(*game)

    assert not verdict.problems, str(verdict)
