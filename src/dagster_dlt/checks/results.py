"""Findings as Dagster's results."""

from collections.abc import Iterable
from typing import Any, Final

import dagster as dg

from dagster_dlt._redaction import redacted
from dagster_dlt.checks.check import Check
from dagster_dlt.checks.evaluation import Finding
from dagster_dlt.checks.settings import Severity
from dagster_dlt.constants import META_KEY_QUERY, META_KEY_SAMPLE

#: Characters of a value that are shown, at most.
LONGEST: Final = 200
_SEVERITIES: Final[dict[Severity, dg.AssetCheckSeverity]] = {
    "warn": dg.AssetCheckSeverity.WARN,
    "error": dg.AssetCheckSeverity.ERROR,
}


def result_of(key: dg.AssetCheckKey, finding: Finding) -> dg.AssetCheckResult:
    """Return what Dagster shows of a finding."""
    check, verdict = finding.check, finding.verdict
    metadata: dict[str, Any] = dict(verdict.metadata)
    if verdict.sample and not verdict.passed:
        metadata[META_KEY_QUERY] = verdict.sample.sql
    if finding.rows:
        metadata[META_KEY_SAMPLE] = _table(finding.names, finding.rows)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=_SEVERITIES[_severity(check, finding)],
        description=verdict.text,
        metadata=metadata,
    )


def _severity(check: Check, finding: Finding) -> Severity:
    if finding.is_unknown:
        return "warn"
    usual: Severity = "warn" if check.kind == "references" else "error"
    return check.severity or finding.verdict.severity or usual


def _table(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> dg.TableMetadataValue:
    names = list(names)
    records = [
        dg.TableRecord({name: _shown(value) for name, value in zip(names, row, strict=True)})
        for row in rows
    ]
    columns = [dg.TableColumn(name, _type(name, records)) for name in names]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _type(name: str, records: list[dg.TableRecord]) -> str:
    values = [record.data[name] for record in records]
    return "int" if all(type(value) is int for value in values) else "string"


def _shown(value: object) -> str | int | float | bool:
    if isinstance(value, int | float | bool):
        return value
    if value is None:
        return "null"
    text = redacted(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
