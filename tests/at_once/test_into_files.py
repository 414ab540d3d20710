"""Whatever runs load at once into files and Delta tables, it is as if they had come one by one.

`make soak-at-once` plays more of these, also with runs that are killed. What becomes of the rows of
these is shown one by one in `test_rows_in_files.py`.
"""

import pytest
from game import games_into


@pytest.mark.parametrize(
    "game", games_into("files", "delta", killed=0), ids=lambda game: " ".join(map(str, game))
)
def test_runs_at_once_leave_what_they_leave_one_by_one(game, field):
    verdict = field.play(*game)

    assert not verdict.problems, str(verdict)
