"""Kills many loads, and prints what came of it: `make soak N=50`.

The exit code says whether a history has ended with damage. A line for each of these says how to
play it again; which of several jobs at a time is the n-th may differ from one time to the next.
"""
# ruff: noqa: T201 - talks to a person on a terminal

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from history import Places, Verdict
from plan import CELLS, POINTS

from postgres import server
from seeds import seeds
from soaking import conclude, nursery_for, play_all

#: Columns of the summary: the stages of a load, and those before and after it.
STAGES = {
    "before": "before",
    "sync": "sync",
    "synced": "sync",
    "extract": "extract",
    "extracted": "extract",
    "normalize": "normalize",
    "normalized": "normalize",
    "load": "load",
    "completed": "commit",
    "loaded": "report",
}


def main() -> bool:
    """Play as asked for on the command line; return whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="seeds for each cell")
    parser.add_argument("--cell", choices=[*map(str, CELLS)], help="only this one")
    parser.add_argument("--seed", help="only this one")
    parser.add_argument("--base", help="what seeds are made of, by default the commit")
    parser.add_argument("--points", action="store_true", help="all named moments, not seeds")
    parser.add_argument("--plain", action="store_true", help="dlt alone, which is damaged")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--keep", action="store_true", help="leave the damaged ones behind")
    asked = parser.parse_args()
    cells = [cell for cell in CELLS if asked.cell in (None, str(cell))]
    chosen = [asked.seed] if asked.seed else seeds(asked.rounds, asked.base)
    if asked.points:
        chosen = [f"{point}:{then}" for point in POINTS for then in ("new", "again", "retry")]
    began = time.monotonic()
    script = Path(__file__).with_name("project.py")
    with nursery_for(script, keep=asked.keep) as (folder, nursery), server() as database:
        places = Places(folder, nursery, database, plain=asked.plain)
        games = [(cell, seed) for seed in chosen for cell in cells]
        verdicts = play_all(places.play, games, asked.jobs)
    print(_table(verdicts))
    return conclude(verdicts, "histories", began)


def _table(verdicts: list[Verdict]) -> str:
    columns = list(dict.fromkeys(STAGES.values()))
    lines = [f"\n\n{'cell':16}{'rounds':>6}{'damaged':>9}{'killed':>8}, in {' '.join(columns)}"]
    for cell in CELLS:
        mine = [verdict for verdict in verdicts if verdict.plan.cell == cell]
        died = Counter(STAGES[line["stage"]] for verdict in mine for line in verdict.died)
        counts = " ".join(f"{died[stage]:>{len(stage)}}" for stage in columns)
        damaged = sum(1 for verdict in mine if verdict.problems)
        lines.append(f"{cell!s:16}{len(mine):>6}{damaged:>9}{died.total():>8}     {counts}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(not main())
