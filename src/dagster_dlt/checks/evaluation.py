"""Asks a destination for all that checks have to know, in one session."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from dlt.common.schema import Schema
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._redaction import redacted
from dagster_dlt.checks.check import Check
from dagster_dlt.checks.ground import Ground, NotEvaluatedError, Session, Words
from dagster_dlt.checks.measures import Measure, answers
from dagster_dlt.checks.probes import PROBES, Probe, Verdict
from dagster_dlt.loading.turns import turn_of

#: Samples that are taken for one evaluation, at most: each is a statement.
SAMPLES: Final = 25


@dataclass(frozen=True)
class Finding:
    """What has come of a check, with failing rows to show."""

    check: Check
    verdict: Verdict
    names: tuple[str, ...] = ()
    rows: Sequence[Sequence[Any]] = ()
    #: It could not be evaluated.
    is_unknown: bool = False


#: Returns what a check is asked of, in a session.
Grounds = Callable[[Check, Session], Ground]


def evaluate(
    checks: Sequence[Check],
    pipeline: Pipeline,
    source: DltSource,
    ground: Grounds,
    *,
    is_loaded: bool,
) -> list[Finding]:
    """Evaluate checks at the destination of a pipeline, in their order.

    What cannot be evaluated is a finding of its own; nothing is raised.

    Args:
        checks: The checks.
        pipeline: The pipeline.
        source: The source whose tables they are about.
        ground: Returns what each is asked of.
        is_loaded: Whether the pipeline has just loaded the source, and so has its schema.
            Otherwise the destination is asked for the one that it has.
    """
    try:
        schema = _dlt.schema_for(pipeline, source)
        with _asked(pipeline, schema, is_loaded=is_loaded) as session:
            probes = [PROBES[each.kind](each, ground(each, session)) for each in checks]
            return _with_samples(_verdicts(probes, session), session)
    except Exception as error:  # noqa: BLE001 - a check that cannot be evaluated fails no load
        return [unknown(each, error) for each in checks]


@contextmanager
def _asked(pipeline: Pipeline, schema: Schema, *, is_loaded: bool) -> Iterator[Session]:
    opened = turn_of(pipeline).open
    with _dlt.asked(pipeline, schema, opened, stored=not is_loaded) as (sql, found):

        def rows(query: str) -> Sequence[Sequence[Any]]:
            return sql.execute_sql(query) or []

        words = Words(
            table=sql.make_qualified_table_name,
            column=sql.escape_column_name,
            limited=lambda query, number: _dlt.limited(sql, query, number),
        )
        yield Session(found or schema, is_loaded or found is not None, words, rows)


def _verdicts(probes: Sequence[Probe], session: Session) -> list[Finding]:
    asked = [_measures(probe) for probe in probes]
    measures = [one for some in asked if not isinstance(some, Exception) for one in some]
    found = answers(measures, lambda sql: session.rows(sql)[0])
    return [_finding(*each, found) for each in zip(probes, asked, strict=True)]


def _measures(probe: Probe) -> Sequence[Measure] | Exception:
    try:
        return probe.measures()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one of them
        return error


def _finding(
    probe: Probe, asked: Sequence[Measure] | Exception, found: Mapping[Measure, Any]
) -> Finding:
    if isinstance(asked, Exception):
        return unknown(probe.check, asked)
    values = [found[each] for each in asked]
    for value in values:
        if isinstance(value, Exception):
            return unknown(probe.check, value)
    try:
        return Finding(probe.check, probe.verdict(values))
    except Exception as error:  # noqa: BLE001 - as above
        return unknown(probe.check, error)


def unknown(check: Check, error: Exception) -> Finding:
    """Return what is said of a check that cannot be evaluated, and why."""
    said = (
        str(error) if isinstance(error, NotEvaluatedError) else f"{type(error).__name__}: {error}"
    )
    reason = redacted(said).strip().rstrip(".")
    text = f"Not evaluated: {reason[:1000]}."
    return Finding(check, Verdict(passed=False, text=text, severity="warn"), is_unknown=True)


def _with_samples(findings: Sequence[Finding], session: Session) -> list[Finding]:
    left, result = SAMPLES, []
    for found in findings:
        sample, most = found.verdict.sample, found.check.sample
        if sample is None or not most or not left:
            result.append(found)
            continue
        left -= 1
        shown: Sequence[Sequence[Any]] = []
        with suppress(Exception):  # the number of rows says enough
            shown = session.rows(session.words.limited(sample.sql, most))
        result.append(Finding(found.check, found.verdict, sample.names, shown))
    return result
