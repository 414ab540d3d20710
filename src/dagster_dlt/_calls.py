"""The calls of `run` in one step, and what was reported before each of them.

A step may call `run` several times for one asset, page after page. Dagster takes one
materialization of an asset from each attempt, so what the calls report adds up; and on a retry it
is not enough to know that an asset was materialized before: the question is by which calls.
"""

from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import dagster as dg

from dagster_dlt import _dagster, metadata
from dagster_dlt.constants import META_KEY_CALL

Events = Mapping[dg.AssetKey, dg.AssetMaterialization]


@dataclass(frozen=True)
class _Attempt:
    """One attempt of a step."""

    #: What earlier attempts have reported, the last event of each asset.
    done: Events
    #: What the runs have reported that this one goes on with.
    again: Events
    #: Their ids.
    resumed: frozenset[str] = frozenset()
    #: The run and the step that it is an attempt of.
    step: tuple[str, str] = ("", "")
    #: What its calls load. An exception keeps what its frames have in variables.
    loads: WeakSet[Generator[Any, None, None]] = field(default_factory=WeakSet)
    #: The last call for each asset.
    calls: dict[dg.AssetKey, int] = field(default_factory=dict)
    #: What this attempt has reported for each asset.
    totals: dict[dg.AssetKey, Mapping[str, Any]] = field(default_factory=dict)


#: The attempts that are going on, each for as long as Dagster has it.
_ATTEMPTS: Final[WeakKeyDictionary[object, _Attempt]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Call:
    """One call of `run` among those of its step for the same assets.

    A retry is taken to make the calls of the attempt before it, in their order: its second call
    goes on with the second one.
    """

    #: 1 for the first one.
    number: int
    #: What is to be reported although it is not loaded again.
    repeated: tuple[dg.AssetMaterialization, ...]
    _attempt: _Attempt

    @classmethod
    def of(cls, context: dg.OpExecutionContext, keys: Collection[dg.AssetKey]) -> "Call":
        """Count a call for the assets of these keys."""
        attempt = _attempt(context)
        first = [key for key in keys if key not in attempt.calls]
        number = 1 + max((attempt.calls.get(key, 0) for key in keys), default=0)
        attempt.calls.update(dict.fromkeys(keys, number))
        return cls(number, tuple(_repeated(context, attempt, first)), attempt)

    def begins(self, load: Generator[Any, None, None]) -> None:
        """Remember a load, which is to end before the step is tried again in this process."""
        self._attempt.loads.add(load)

    @property
    def resumed(self) -> frozenset[str]:
        """Ids of the runs that this one goes on with."""
        return self._attempt.resumed

    def was_made(self, key: dg.AssetKey) -> bool:
        """Tell whether an earlier attempt, or an earlier run, has loaded an asset in this call."""
        event = self._before(key)
        return event is not None and _number(event.metadata) >= self.number

    def has_made(self, keys: Iterable[dg.AssetKey]) -> bool:
        """Tell whether that is so of all these assets."""
        return all(map(self.was_made, keys))

    def total(self, key: dg.AssetKey, loaded: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add what this call has loaded for an asset to what the calls before it have."""
        event = self._before(key)
        before = self._attempt.totals.get(key) or (event.metadata if event else {})
        total = dict(loaded)
        if before:
            # The jobs of a hundred calls are not repeated by each of them.
            total = metadata.together({**before, "jobs": []}, loaded)
        if self.number > 1:
            total[META_KEY_CALL] = self.number
        self._attempt.totals[key] = total
        return total

    def step(self, step_key: str) -> str:
        """Return what this call's directory and notes are found by in a retry."""
        return step_key if self.number == 1 else f"{step_key} (call {self.number})"

    def _before(self, key: dg.AssetKey) -> dg.AssetMaterialization | None:
        # An attempt that follows a repeated event has it among its own.
        return self._attempt.done.get(key) or self._attempt.again.get(key)


def _attempt(context: dg.OpExecutionContext) -> _Attempt:
    key = _dagster.attempt(context)
    if key is None:
        return _Attempt({}, {})
    if key not in _ATTEMPTS:
        step = context.run_id, _dagster.step_key(context)
        _end_loads_of(step)
        retry, resumed = _dagster.retry_number(context) > 0, _dagster.resumed_runs(context)
        _ATTEMPTS[key] = _Attempt(
            done=_dagster.materialized_in(context, context.run_id) if retry else {},
            again=_dagster.materialized_in(context, *reversed(resumed)),
            resumed=frozenset(resumed),
            step=step,
        )
    return _ATTEMPTS[key]


def _end_loads_of(step: tuple[str, str]) -> None:
    """End what attempts of a step are still loading, since their body has failed in between."""
    for attempt in list(_ATTEMPTS.values()):
        if attempt.step == step:
            for load in list(attempt.loads):
                load.close()


def _repeated(
    context: dg.OpExecutionContext, attempt: _Attempt, keys: Iterable[dg.AssetKey]
) -> Iterable[dg.AssetMaterialization]:
    """Return the events without which Dagster would skip what is downstream, or fail the step.

    An output that is required is required of each attempt. Where it is Nothing, Dagster would
    make one itself, and so an event without metadata.
    """
    outputs = _dagster.asset_outputs(context)
    for key in keys:
        if key in attempt.done:
            if key in outputs and outputs[key].is_required:
                yield attempt.done[key]
        elif key in attempt.again:
            yield attempt.again[key]


def _number(event_metadata: Mapping[str, Any]) -> int:
    return int(metadata.plain(event_metadata.get(META_KEY_CALL, 1)))
