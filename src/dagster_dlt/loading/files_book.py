"""A ledger's entries where there is no SQL: small files in a folder beside `_dlt_loads`.

    <dataset>/_dlt_dagster_loads/1795257698.1666312.jsonl   a load, with what became of it
                                 1795257698.1666312.beat    when it gave its last sign of life
                                 lease-0f3a….jsonl          a lease that is held or waited for
                                 lease-0f3a…~7.jsonl        the same, once it has its number

A lease and its number are never written over: whoever lists a folder of a disk while a file is
replaced may see neither of the two.
"""

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from time import time
from typing import Final

from dagster_dlt import _dlt
from dagster_dlt.loading.book import TABLE, as_noted
from dagster_dlt.loading.entry import COLUMNS, Entry, Status
from dagster_dlt.loading.machine import machine

#: Seconds after which what became of a load is forgotten: longer than it is asked for, and a
#: package is kept that may be committed then.
KEPT: Final = 16 * 24 * 3600.0
#: Seconds for which nobody gives another sign of life, by whatever clock.
FRESH: Final = 30.0

_ENTRY: Final = ".jsonl"
_BEAT: Final = ".beat"
_LEASE: Final = "lease-"


class FilesBook:
    """The folder with the entries.

    Args:
        files: The files of the dataset.
    """

    def __init__(self, files: _dlt.Files) -> None:
        self._files = files
        #: Entries that will never be another again, by the names of their files.
        self._settled: dict[str, Entry] = {}

    def connected(self) -> AbstractContextManager[object]:
        """Hold nothing: files are asked for one by one, see `Book`."""
        return nullcontext()

    # --- reading -------------------------------------------------------------------------------

    def loads(self, pipeline: str, since: float) -> list[Entry]:
        """Return loads of a pipeline, see `Book`."""
        found = [
            each
            for each in self._read([each for each in self._names() if not each.startswith(_LEASE)])
            if each.pipeline == pipeline
            and (each.status in {"loading", "undoing"} or each.started_at > since)
        ]
        open_ones = {each.load_id: each.schema for each in found if each.status == "loading"}
        found = self._with_beats(found)
        return as_noted(found, self._files.committed(open_ones))

    def leases(self) -> list[Entry]:
        """Return leases, see `Book`."""
        names = [each for each in self._names() if each.startswith(_LEASE)]
        return self._with_beats(self._read(names))

    def _names(self) -> list[str]:
        return [name for name in self._files.names(TABLE) if name.endswith(_ENTRY)]

    def _read(self, names: Sequence[str]) -> list[Entry]:
        unknown = [name for name in names if name not in self._settled]
        found = {name: self._settled[name] for name in names if name in self._settled}
        for name, text in self._files.read(TABLE, *unknown).items():
            row = json.loads(text)
            found[name] = entry = Entry.of([row[column] for column in COLUMNS])
            if entry.status in {"committed", "lease"}:
                self._settled[name] = entry
        # The name of a lease with its number comes after the one without.
        return [*{found[name].load_id: found[name] for name in sorted(found)}.values()]

    def _with_beats(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return entries with the last signs of life of those that are not over.

        These are written over, so that a listing may be without them. They are asked for by name.
        """
        asked = {
            f"{_stem(each)}{_BEAT}": each
            for each in entries
            if each.status in {"loading", "lease"} and time() - each.beat_at > FRESH
        }
        beats = {
            asked[name].load_id: float(text)
            for name, text in self._files.read(TABLE, *asked).items()
        }
        return [
            replace(each, beat_at=max(each.beat_at, beats.get(each.load_id, 0))) for each in entries
        ]

    # --- writing -------------------------------------------------------------------------------

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of what there was for its package."""
        number = f"~{entry.ticket}" if entry.ticket is not None else ""
        row = dict(zip(COLUMNS, entry.values(), strict=True))
        self._settled.pop(f"{_stem(entry)}{number}{_ENTRY}", None)
        self._files.write(TABLE, f"{_stem(entry)}{number}{_ENTRY}", json.dumps(row))

    def note(self, entry: Entry) -> None:
        """Note more of something that goes on."""
        if known := self._known(entry):
            self.write(
                replace(
                    entry,
                    status=known.status,
                    machine=machine(),
                    started_at=known.started_at,
                    beat_at=known.beat_at,
                )
            )

    def beat(self, entry: Entry, moment: float) -> None:
        """Note a sign of life, apart from the entry: that may be removed at this moment."""
        self._files.write(TABLE, f"{_stem(entry)}{_BEAT}", str(moment))

    def change(self, entry: Entry, before: Status, after: Status, moment: float) -> str | None:
        """Change the status of a load; return what it is then."""
        known = self._known(entry)
        if known is None or known.status != before:
            return known.status if known else None
        self.write(replace(known, status=after, beat_at=moment))
        self._files.remove(TABLE, f"{_stem(entry)}{_BEAT}")
        self._forget(moment - KEPT)
        return after

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        stem = _stem(entry)
        for name in self._files.names(TABLE):
            if re.fullmatch(rf"{re.escape(stem)}(~\d+)?({_ENTRY}|{_BEAT})", name):
                self._files.remove(TABLE, name)

    def _known(self, entry: Entry) -> Entry | None:
        return next(iter(self._read([f"{_stem(entry)}{_ENTRY}"])), None)

    def _forget(self, moment: float) -> None:
        """Remove the loads that were begun before a moment; by their names, which have it."""
        for name in self._files.names(TABLE):
            with suppress(ValueError):
                if float(name.rpartition(".")[0]) < moment:
                    self._files.remove(TABLE, name)


def _stem(entry: Entry) -> str:
    """Return what the files of an entry are called, without what an object store would escape."""
    return re.sub(r"[^\w.-]", "-", entry.load_id)
