"""Measuring two things against one another: alternating order, median of rounds."""

import statistics
import time
from collections.abc import Callable, Mapping


def compare(rounds: int, subjects: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each subject; the order is reversed every other round."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        names = list(subjects) if number % 2 == 0 else list(reversed(subjects))
        for name in names:
            started = time.perf_counter()
            subjects[name]()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def report(title: str, seconds: Mapping[str, float], *, baseline: str) -> None:
    """Print each subject's time, and its ratio to the baseline."""
    print(title)
    for name, value in seconds.items():
        print(f"  {name:<58} {value:7.3f} s   x {value / seconds[baseline]:.2f}")
    print()
