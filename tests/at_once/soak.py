"""Loads with many runs at once, and prints what came of it: `make soak-at-once N=50`.

The exit code says whether a game has ended with damage. A line for each of these says how to play
it again; which of several runs is first at the destination may differ from one time to the next.
"""
# ruff: noqa: T201 - talks to a person on a terminal

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from game import Field
from runs import CELLS

from postgres import server
from seeds import seeds


def main() -> bool:
    """Play as asked for on the command line; return whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="seeds for each cell")
    parser.add_argument("--cell", choices=[*map(str, CELLS)], help="only this one")
    parser.add_argument("--seed", help="only this one")
    parser.add_argument("--base", help="what seeds are made of, by default the commit")
    asked = parser.parse_args()
    cells = [cell for cell in CELLS if str(cell) == asked.cell] or [*CELLS]
    chosen = [asked.seed] if asked.seed else seeds(asked.rounds, asked.base)
    began = time.monotonic()
    damaged: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, server() as database:
        _keep_apart(folder)
        field = Field(Path(folder), database)
        for seed in chosen:
            for cell in cells:
                verdict = field.play(cell, seed)
                damaged[str(cell)] += bool(verdict.problems)
                print(f"\n{verdict}\n" if verdict.problems else ".", end="", flush=True)
    print(f"\n\n{'cell':20}{'rounds':>6}{'damaged':>9}")
    for cell in cells:
        print(f"{cell!s:20}{len(chosen):>6}{damaged[str(cell)]:>9}")
    minutes, seconds = divmod(time.monotonic() - began, 60)
    games = len(chosen) * len(cells)
    print(f"\n{games} games, {damaged.total()} damaged, {minutes:.0f}:{seconds:02.0f}")
    return not damaged.total()


def _keep_apart(folder: str) -> None:
    """Keep dlt and Dagster off the network, the home directory and the terminal."""
    os.environ |= {
        "DLT_DATA_DIR": f"{folder}/dlt",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    logging.disable(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(not main())
