"""A ledger's entries where there is no SQL: small files in a folder beside `_dlt_loads`.

    <dataset>/_dlt_dagster_loads/1795257698.1666312.jsonl   a load, with what became of it
                                 1795257698.1666312.beat    when it gave its last sign of life
                                 1795257698.1666312~….fate  whether it was committed or taken back
                                 1795257698.1666312~….kept  an old one, whose partition may come
                                 lease-0f3a….jsonl          a lease that is held or waited for
                                 lease-0f3a…~7.jsonl        the same, once it has its number

A lease and its number are never written over: whoever lists a folder of a disk while a file is
replaced may see neither of the two.
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from hashlib import sha256
from time import time
from typing import Final

from dagster_dlt import _dlt
from dagster_dlt.loading.book import TABLE, as_noted
from dagster_dlt.loading.entry import COLUMNS, RANGE, Entry, Status
from dagster_dlt.loading.files_undo import FilesUndo
from dagster_dlt.loading.machine import machine

#: Seconds after which what became of a load is forgotten: longer than it is asked for, and a
#: package is kept that may be committed then.
KEPT: Final = 16 * 24 * 3600.0
#: Seconds for which nobody gives another sign of life, by whatever clock.
FRESH: Final = 30.0

_ENTRY: Final = ".jsonl"
_BEAT: Final = ".beat"
_FATE: Final = ".fate"
_KEPT: Final = ".kept"
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

    def undo(self, schema_name: str) -> FilesUndo:
        """Return what removes files, see `Book`."""
        return FilesUndo(self._files.client, schema_name)

    # --- reading -------------------------------------------------------------------------------

    def loads(self, pipeline: str, since: float) -> list[Entry]:
        """Return loads of a pipeline, see `Book`."""
        found = [
            each
            for each in self._read([each for each in self._names() if not each.startswith(_LEASE)])
            if each.pipeline == pipeline
            and (each.status in {"loading", "undoing"} or each.started_at > since)
        ]
        return self._noted(self._with_beats(found))

    def going_on(self) -> list[Entry]:
        """Return the loads that are not over, see `Book`."""
        found = self._read([each for each in self._names() if not each.startswith(_LEASE)])
        found = self._noted([each for each in found if each.status == "loading"])
        return [each for each in found if each.status == "loading"]

    def earlier(self, pipeline: str, partition: str) -> list[Entry]:
        """Return what was loaded of a partition or range, see `Book`."""
        every, places = self._files.names(TABLE), {_place(partition), _place(RANGE)}
        meant = [
            name
            for name in every
            if (name.endswith(_ENTRY) and not name.startswith(_LEASE))
            or (name.endswith(_KEPT) and (RANGE in partition or _place_in(name) in places))
        ]
        return self._noted(
            each
            for each in self._read(meant)
            if each.pipeline == pipeline
            and each.status in {"committed", "loading"}
            and (its := each.loader.partition)
            and (its == partition or RANGE in its or RANGE in partition)
        )

    def known(self, load_ids: Collection[str]) -> list[Entry]:
        """Return loads by their ids, see `Book`."""
        if not load_ids:
            return []
        stems = {_safe(each) for each in load_ids}
        kept = [name for name in self._files.names(TABLE) if name.endswith(_KEPT)]
        meant = [name for name in kept if name.partition("~")[0] in stems]
        return self._read([*meant, *(f"{each}{_ENTRY}" for each in sorted(stems))])

    def _noted(self, entries: Iterable[Entry]) -> list[Entry]:
        found = [*entries]
        open_ones = {each.load_id: each.schema for each in found if each.status == "loading"}
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
        self._settled.pop(f"{_stem(entry)}{number}{_ENTRY}", None)
        self._files.write(TABLE, f"{_stem(entry)}{number}{_ENTRY}", _row(entry))

    def note(self, entry: Entry) -> None:
        """Note more of something that goes on."""
        if known := self._known(entry):
            self.write(
                replace(
                    entry,
                    status=known.status,
                    machine=entry.machine or machine(),
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
        if before == "loading":
            if after == "undoing" and self._files.committed({entry.load_id: entry.schema}):
                return "committed"
            # A file cannot be changed only if it is what it was: whoever is first here decides.
            decided = self._files.decide(TABLE, _fate_of(known), after)
            if decided != after:
                return decided
        self.write(replace(known, status=after, beat_at=moment))
        self._files.remove(TABLE, f"{_stem(entry)}{_BEAT}")
        self._forget(moment - KEPT)
        return after

    def settle(self, entry: Entry, status: Status) -> None:
        """Give a committed load another status, see `Book`."""
        if known := self._known(entry):
            self.write(replace(known, status=status))
        else:
            self._files.remove(TABLE, _kept_as(entry))

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        stem = _stem(entry)
        for name in self._files.names(TABLE):
            if re.fullmatch(rf"{re.escape(stem)}(~\w+)?({_ENTRY}|{_BEAT}|{_FATE})", name):
                self._files.remove(TABLE, name)

    def _known(self, entry: Entry) -> Entry | None:
        return next(iter(self._read([f"{_stem(entry)}{_ENTRY}"])), None)

    def _forget(self, moment: float) -> None:
        """Remove the loads that were begun before a moment; by their names, which have it.

        What was loaded of a partition is kept elsewhere: it is asked for when that is loaded again.
        """
        old = [each for each in self._files.names(TABLE) if _begun(each) < moment]
        for entry in self._read([each for each in old if each.endswith(_ENTRY)]):
            if entry.loader.partition and entry.status == "committed":
                self._files.write(TABLE, _kept_as(entry), _row(entry))
        for name in old:
            self._files.remove(TABLE, name)


def _row(entry: Entry) -> str:
    return json.dumps(dict(zip(COLUMNS, entry.values(), strict=True)))


def _stem(entry: Entry) -> str:
    return _safe(entry.load_id)


def _safe(load_id: str) -> str:
    """Return what the files of a load are called, without what an object store would escape."""
    return re.sub(r"[^\w.-]", "-", load_id)


def _begun(name: str) -> float:
    """Return when the load began that a file is about; none of those that are kept for good."""
    found = re.match(r"\d+\.?\d*(?=[.~])", name)
    return float(found[0]) if found and not name.endswith(_KEPT) else float("inf")


def _fate_of(entry: Entry) -> str:
    # With the time, since what was taken back may be loaded once more.
    return f"{_stem(entry)}~{int(entry.started_at * 1000)}{_FATE}"


def _kept_as(entry: Entry) -> str:
    return f"{_stem(entry)}~{_place(entry.loader.partition or '')}{_KEPT}"


def _place(partition: str) -> str:
    """Return what partitions are told apart by in the names of files; ranges are all the same."""
    return "range" if RANGE in partition else sha256(partition.encode()).hexdigest()[:16]


def _place_in(name: str) -> str:
    return name.partition("~")[2].removesuffix(_KEPT)
