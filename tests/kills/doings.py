"""What the processes of a history did, by the journal that they wrote: were they allowed to?"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from plan import Disk
from world import STAMPED, world

from contents import Contents, Row, differences


@dataclass
class Extraction:
    """A process, or an attempt of its step, that had the source called, and what came of it.

    Attributes:
        root: The run that was new; re-executions of it and attempts belong to it as well.
        tick: The tick of the world.
        offers: The stamp of what each resource gave.
        load_id: The package that it became.
        packed: The package was certainly complete on the disk.
        committed: The package was certainly noted in `_dlt_loads`.
    """

    root: str
    tick: int
    offers: dict[str, str] = field(default_factory=dict)
    load_id: str | None = None
    packed: bool = False
    committed: bool = False


@dataclass(frozen=True)
class Doings:
    """The journal of a history, with the tick of each process by its number."""

    journal: Sequence[Mapping[str, Any]]
    ticks: Mapping[int, int]
    disk: Disk

    def problems(self, found: Contents, expected: Contents) -> Iterator[str]:
        """Say what was extracted too often, and what of it is at the destination in part."""
        yield from self._called_too_often()
        committed = {each.load_id for each in self.extractions if each.committed}
        if lost := sorted(committed - set(found.load_ids)):
            yield f"_dlt_loads: {lost} no longer there"
        for table in STAMPED:
            yield from self._stamped(table, found, expected)

    def unreported(self) -> Iterator[str]:
        """Say which assets are not materialized in the end, and whether what is downstream ran."""
        last = {tick: number for number, tick in self.ticks.items()}
        for tick, number in last.items():
            mine = [line for line in self.journal if line["number"] == number]
            if not any(line["what"] == "report" for line in mine):
                yield f"tick {tick}: nothing downstream has run"
            roots = {line["root"] for line in mine if line["what"] == "began"}
            yielded = {
                line["key"]
                for line in self.journal
                if line["what"] == "yielded" and line["root"] in roots
            }
            if roots and (left := len(world(tick)) - len(yielded)):
                yield f"tick {tick}: {left} assets were not materialized"

    @cached_property
    def extractions(self) -> list[Extraction]:
        """What was extracted, in the order of time."""
        found: dict[tuple[int, int], Extraction] = {}
        for line in self.journal:
            key = line["number"], line["pid"]
            if line["what"] == "began":
                found[key] = Extraction(line["root"], self.ticks[line["number"]])
            elif key not in found:
                continue
            elif line["what"] == "called":
                found[key].offers[line["resource"]] = line["offer"]
            elif line["what"] == "packing":
                found[key].load_id = line["load_id"]
            elif line["what"] == "packed":
                found[key].packed = True
            elif line["what"] == "completed":
                for each in found.values():
                    each.committed |= each.load_id == line["load_id"]
        return list(found.values())

    def _called_too_often(self) -> Iterator[str]:
        """What is packed, or committed if the disk is lost, is not extracted by a re-execution."""
        calls = Counter(
            (line["number"], line["pid"], line["resource"])
            for line in self.journal
            if line["what"] == "called"
        )
        for (number, _, resource), times in calls.items():
            if times > 1:
                yield f"{resource} was called {times} times by process {number}"
        for index, later in enumerate(self.extractions):
            for earlier in self.extractions[:index]:
                safe = earlier.packed if self.disk == "kept" else earlier.committed
                again = sorted(earlier.offers.keys() & later.offers.keys())
                if earlier.root == later.root and safe and again:
                    what = "committed" if earlier.committed else "packed"
                    yield f"{earlier.load_id} was {what}, and extracted again: {again}"

    def _stamped(self, table: str, found: Contents, expected: Contents) -> Iterator[str]:
        """Check a table of which each extraction is new rows, by the stamps of the extractions.

        What an extraction gave is there entirely or not at all. It is there if it was packed and
        the disk was kept, or if its load is noted as loaded.
        """
        there: dict[str, list[Row]] = defaultdict(list)
        for document in found.documents(table):
            there[document.pop("offer")].append(document)
        wanted: dict[int, list[Row]] = defaultdict(list)
        for document in expected.documents(table):
            del document["offer"]
            wanted[document["id"] // 100].append(document)
        mine = [each for each in self.extractions if table in each.offers]
        loaded = [each for each in mine if each.load_id in found.load_ids]
        for each in mine:
            is_loaded = each in loaded
            name = f"{table}, {'loaded' if is_loaded else 'not loaded'} as {each.load_id}"
            rows = there.pop(each.offers[table], [])
            yield from differences(name, rows, wanted[each.tick] if is_loaded else [])
            if each.packed and self.disk == "kept" and not is_loaded:
                yield f"{table}: {each.load_id} was packed, and never loaded"
        if there:
            yield f"{table}: rows of {len(there)} extractions that nobody made"
        yield from _number_of_loads(table, loaded, set(wanted))


def _number_of_loads(table: str, loaded: Sequence[Extraction], ticks: set[int]) -> Iterator[str]:
    """Each tick is loaded; by a run and all its re-executions together, only once."""
    loads = Counter((each.tick, each.root) for each in loaded)
    for (tick, root), number in loads.items():
        if number > 1:
            yield f"{table}: {number} loads of tick {tick} by {root} and its re-executions"
    if missing := ticks - {tick for tick, _ in loads}:
        yield f"{table}: nothing of tick {sorted(missing)}"
