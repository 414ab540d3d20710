"""The derived checks that one step has to answer."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Final

import dagster as dg
from dlt.common.schema.exceptions import DataValidationError
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadSigns, ResourceFacts, ResourceFailure
from dagster_dlt._redaction import redacted
from dagster_dlt.checks.check import Check
from dagster_dlt.checks.evaluation import Finding, Grounds, evaluate, unknown
from dagster_dlt.checks.ground import Ground, Load, Session
from dagster_dlt.checks.probes import Verdict
from dagster_dlt.checks.results import result_of
from dagster_dlt.loading.outcome import Outcome
from dagster_dlt.metadata import plain

#: Materializations that are looked back at.
HISTORY: Final = 10


@dataclass(frozen=True)
class StepChecks:
    """The derived checks that are selected in a step, and how to evaluate them.

    Checks are evaluated where a load is reported, and never fail it.
    """

    checks: Mapping[dg.AssetCheckKey, Check]
    source: DltSource
    instance: Callable[[], dg.DagsterInstance]
    run_id: str
    #: Configures dlt for questions to the destination.
    configured: Callable[[], AbstractContextManager[None]]

    def of_load(
        self, outcome: Outcome, loaded: Mapping[dg.AssetKey, Sequence[ResourceFacts]]
    ) -> dict[dg.AssetKey, list[dg.AssetCheckResult]]:
        """Return the results for what a load has committed, by the keys of its assets."""
        chosen = {key: check for key, check in self.checks.items() if key.asset_key in loaded}
        facts = {each.resource: each for some in loaded.values() for each in some}
        ids = {load_id for each in facts.values() for load_id in _load_ids(each)}
        # Of all resources at once: there may be a thousand.
        signs = cache(lambda: _dlt.load_signs(outcome.pipeline, ids))

        def ground(check: Check, session: Session) -> Ground:
            own = facts[check.resource]
            tables = tuple(table.name for table in (*own.tables, *own.nested))
            load = _load(own, signs())
            return Ground(session, tables, load, self._history(check.resource))

        found: dict[dg.AssetKey, list[dg.AssetCheckResult]] = defaultdict(list)
        for key, result in self._results(chosen, outcome.pipeline, ground, is_loaded=True):
            found[key.asset_key].append(result)
        return found

    def of_tables(
        self, pipeline: Pipeline, loaded: Container[dg.AssetKey]
    ) -> list[dg.AssetCheckResult]:
        """Return the results for the tables of assets that are not loaded, as they are."""
        chosen = {
            key: check
            for key, check in self.checks.items()
            if key.asset_key not in loaded and not check.needs_a_load
        }

        trees: list[_dlt.Trees] = []

        def ground(check: Check, session: Session) -> Ground:
            # Looked through once, for all checks.
            trees.extend([] if trees else [_dlt.Trees(session.schema)])
            resource = self.source.resources.get(check.resource)
            tables = tuple(trees[0].of(resource)) if resource else ()
            return Ground(session, tables, None, self._history(check.resource))

        found = self._results(chosen, pipeline, ground, is_loaded=False)
        return [result for _, result in found]

    def of_failures(self, failures: Iterable[ResourceFailure]) -> list[dg.AssetCheckResult]:
        """Return the results for loads that a schema contract has refused."""
        refused = {each.resource: error for each in failures if (error := _refusal(each))}
        return [
            result_of(key, Finding(check, Verdict(passed=False, text=redacted(_text(error)))))
            for key, check in self.checks.items()
            if check.kind == "contract" and (error := refused.get(check.resource))
        ]

    def _results(
        self,
        chosen: Mapping[dg.AssetCheckKey, Check],
        pipeline: Pipeline,
        ground: Grounds,
        *,
        is_loaded: bool,
    ) -> list[tuple[dg.AssetCheckKey, dg.AssetCheckResult]]:
        if not chosen:
            return []
        checks = list(chosen.values())
        with self.configured():
            found = evaluate(checks, pipeline, self.source, ground, is_loaded=is_loaded)
        return [(key, _shown(key, finding)) for key, finding in zip(chosen, found, strict=True)]

    def _history(self, resource: str) -> Callable[[], list[int]]:
        [key, *_] = [key for key, check in self.checks.items() if check.resource == resource]

        def history() -> list[int]:
            """Return the rows of the last loads, without those of this run."""
            events = (
                self.instance().fetch_materializations(key.asset_key, limit=HISTORY + 1).records
            )
            rows = [
                plain(each.asset_materialization.metadata.get("rows_loaded"))
                for each in events
                if each.run_id != self.run_id and each.asset_materialization
            ]
            return [each for each in rows if isinstance(each, int)][:HISTORY]

        return history


def _shown(key: dg.AssetCheckKey, finding: Finding) -> dg.AssetCheckResult:
    try:
        return result_of(key, finding)
    except Exception as error:  # noqa: BLE001 - values that Dagster cannot show fail no load
        return result_of(key, unknown(finding.check, error))


def _load_ids(facts: ResourceFacts) -> Sequence[str]:
    return list(dict.fromkeys(str(job["load_id"]) for job in facts.jobs))


def _load(facts: ResourceFacts, signs: LoadSigns) -> Load | None:
    ids = _load_ids(facts)
    if not ids and facts.rows_loaded != 0:
        return None  # an earlier attempt has loaded it
    return Load(tuple(ids), facts.rows_loaded, signs)


def _refusal(failure: ResourceFailure) -> DataValidationError | None:
    error: BaseException | None = failure.error
    while error is not None:
        if isinstance(error, DataValidationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _text(error: DataValidationError) -> str:
    column = f", column {error.column_name}" if error.column_name else ""
    entity, mode = error.schema_entity, error.contract_mode
    return f"The load was refused: {entity} of table {error.table_name}{column} are set to {mode}."
