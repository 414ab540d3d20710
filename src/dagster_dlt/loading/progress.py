"""Tells how far dlt is: its own collector, with a line now and then.

dlt calls it in the thread of the load, so it is also where a load that was asked to stop ends.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from dlt.common.runtime.collector_base import Collector
from typing_extensions import override

from dagster_dlt import _dlt

#: Counters of dlt that are no tables.
_TOTALS: Final = {"Resources", "Files", "Jobs"}


class Progress(Collector):
    """Passes everything on to the user's collector, and reports in words.

    Args:
        inner: The collector that the user's pipeline has.
        report: Takes a line.
        every: Seconds between two lines of one stage, at least.
        clock: Seconds that only go up.
        on_extract: Called when dlt begins to extract, where its context is the package's.
    """

    def __init__(
        self,
        inner: Collector,
        report: Callable[[str], None],
        *,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        on_extract: Callable[[], None] | None = None,
    ) -> None:
        self._inner = inner
        self._report = report
        self._every = every
        self._clock = clock
        self._on_extract = on_extract
        self.step = ""
        self._began = self._last = clock()
        self._rows: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    @override
    def update(
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        """Count, and say so when the last line is old enough."""
        _dlt.raise_if_stopped(waits=not self.step.startswith("Extract"))
        forwarded: Any = (name, inc, total, inc_total, message, label)
        self._inner.update(*forwarded)
        counts = self._done if name in _TOTALS else self._rows
        if label is None:
            counts[name] = counts.get(name, 0) + (inc or 0)
            if total is not None:
                self._total[name] = total
            self._total[name] = self._total.get(name, 0) + (inc_total or 0)
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            self._report(self._line(now))

    @override
    def on_start_trace(self, *traced: Any) -> None:
        """Pass the begin of a trace on."""
        self._inner.on_start_trace(*traced)

    @override
    def on_start_trace_step(self, *traced: Any) -> None:
        """Pass the begin of a step on."""
        self._inner.on_start_trace_step(*traced)

    @override
    def on_end_trace_step(self, *traced: Any) -> None:
        """Pass the end of a step on, and remember its secrets: now dlt forgets them."""
        _dlt.remember_secrets()
        self._inner.on_end_trace_step(*traced)

    @override
    def on_end_trace(self, *traced: Any) -> None:
        """Pass the end of a trace on."""
        self._inner.on_end_trace(*traced)

    @override
    def _start(self, step: str) -> None:
        _dlt.raise_if_stopped()
        self._inner(step).__enter__()
        if self._on_extract and step.startswith("Extract"):
            self._on_extract()
        self._began = self._last = self._clock()
        self._rows, self._done, self._total = {}, {}, {}

    @override
    def _stop(self) -> None:
        self._inner.__exit__(None, None, None)  # type: ignore[arg-type]  # dlt passes None itself
        self._report(self._line(self._clock()))

    def _line(self, now: float) -> str:
        seconds = max(now - self._began, 1e-9)
        parts = [
            f"{done:,} of {self._total[name]:,} {name.lower()}"
            if self._total.get(name)
            else f"{done:,} {name.lower()}"
            for name, done in self._done.items()
        ]
        tables = {name: rows for name, rows in self._rows.items() if not name.startswith("_dlt")}
        if tables:
            rows = sum(tables.values())
            largest = sorted(tables, key=tables.__getitem__, reverse=True)[:5]
            each = ", ".join(f"{name} {tables[name]:,}" for name in largest)
            more = ", …" if len(tables) > len(largest) else ""
            parts.append(f"{rows:,} rows, {rows / seconds:,.0f} rows/s ({each}{more})")
        return f"{self.step}, {seconds:.1f} s: {'; '.join(parts) or 'nothing yet'}"
