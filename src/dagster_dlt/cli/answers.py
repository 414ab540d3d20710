"""How answers look: aligned text for people, JSON for machines."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import click

Row = Mapping[str, Any]


def show(rows: Sequence[Row], columns: Mapping[str, str], nothing: str = "") -> None:
    """Print rows below each other in aligned columns, which are given by their titles."""
    if not rows:
        click.echo(nothing)
        return
    lines = [list(columns), *([_cell(row[key]) for key in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return _age(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _age(since: datetime) -> str:
    seconds = max((datetime.now(timezone.utc) - since).total_seconds(), 0)
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 1:
        return f"{seconds:.0f} s ago"
    if hours < 1:
        return f"{minutes:.0f} min ago"
    return f"{hours:.0f} h ago" if days < 2 else f"{days:.0f} days ago"  # noqa: PLR2004 - 48 hours


def show_json(value: object) -> None:
    """Print a value as JSON, with times as in ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def moment(seconds: float) -> datetime:
    """Return the time that is so many seconds after the beginning of 1970."""
    return datetime.fromtimestamp(seconds, timezone.utc)


@dataclass(frozen=True)
class Proposal:
    """A change that is shown first, and made when the operator says so."""

    rows: Sequence[Row]
    columns: Mapping[str, str]
    notes: Sequence[str]
    #: Makes the change, and returns in words what became of it, and whether it is what was asked.
    make: Callable[[], tuple[str, bool]]

    def put(self, *, yes: bool, as_json: bool) -> None:
        """Show it, and make it if it is agreed to.

        Ends the command with code 1 where something else came out than was asked for.
        """
        if not as_json:
            if self.rows:
                show(self.rows, self.columns)
            for note in self.notes:
                click.echo(note)
        result, good = self.make() if yes else ("Nothing was changed. To do it, add --yes.", True)
        if as_json:
            show_json({"rows": self.rows, "notes": self.notes, "done": yes, "result": result})
        else:
            click.echo(result)
        if not good:
            raise click.exceptions.Exit(1)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
yes_option = click.option("--yes", is_flag=True, help="Do it. Without this nothing is changed.")
