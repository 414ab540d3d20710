"""Loads with many runs at once, and prints what came of it: `make soak-at-once N=50`.

The exit code says whether a game has ended with damage. A line for each of these says how to play
it again; which of several runs is first at the destination may differ from one time to the next.
"""
# ruff: noqa: T201 - talks to a person on a terminal

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from backfill import backfill
from game import Field, Verdict
from runs import CELLS

from postgres import server
from seeds import seeds
from soaking import conclude, nursery_for, play_all


def main() -> bool:
    """Play as asked for on the command line; return whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="seeds for each cell")
    parser.add_argument("--cell", choices=[*map(str, CELLS)], help="only this one")
    parser.add_argument("--seed", help="only this one")
    parser.add_argument("--base", help="what seeds are made of, by default the commit")
    parser.add_argument("--jobs", type=int, default=1, help="games at a time, of 8 processes each")
    parser.add_argument("--threads", action="store_true", help="not processes, if none is killed")
    parser.add_argument("--daemon", action="store_true", help="a backfill by Dagster's daemon")
    parser.add_argument("--keep", action="store_true", help="leave the damaged ones behind")
    asked = parser.parse_args()
    cells = [cell for cell in CELLS if asked.cell in {None, str(cell)}]
    chosen = [asked.seed] if asked.seed else seeds(asked.rounds, asked.base)
    began = time.monotonic()
    if asked.daemon:
        return _backfilled(Path(tempfile.mkdtemp(prefix="soak-")))
    script = Path(__file__).with_name("player.py")
    with nursery_for(script, keep=asked.keep) as (folder, nursery), server() as database:
        field = Field(folder, nursery, database, threads=asked.threads)
        games = [(cell, seed) for seed in chosen for cell in cells]
        verdicts = play_all(field.play, games, asked.jobs)
    print(_table(verdicts))
    return conclude(verdicts, "games", began)


def _backfilled(folder: Path) -> bool:
    most, problems = backfill(folder)
    print(f"Up to {most} runs at once:", *(problems or ["each flight is there once"]))
    if not problems:
        shutil.rmtree(folder)
    return not problems


def _table(verdicts: list[Verdict]) -> str:
    lines = [f"\n\n{'cell':28}{'rounds':>6}{'damaged':>9}{'killed':>8}"]
    for cell in dict.fromkeys(verdict.plan.cell for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.plan.cell == cell]
        damaged = sum(1 for verdict in mine if verdict.problems)
        killed = sum(len(verdict.died) for verdict in mine)
        lines.append(f"{cell!s:28}{len(mine):>6}{damaged:>9}{killed:>8}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(not main())
