"""What is at a destination, and what is wrong with it."""

import base64
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg2

Row = dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """The tables of a dataset with their rows, and the names of all datasets beside it."""

    tables: Mapping[str, list[Row]]
    datasets: frozenset[str]

    @classmethod
    def read(cls, destination: str, dataset: str) -> "Contents":
        """Read everything, without dlt, from a database or from the files of a bucket."""
        if Path(destination).is_dir():
            return cls._of_files(Path(destination), dataset)
        url = destination.startswith("postgresql:")
        connection = psycopg2.connect(destination) if url else duckdb.connect(destination)
        with closing(connection):
            cursor = connection.cursor()

            def rows(sql: str) -> list[Row]:
                cursor.execute(sql)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

            found = rows("select distinct table_schema, table_name from information_schema.tables")
            return cls(
                tables={
                    each["table_name"]: rows(f'select * from {dataset}."{each["table_name"]}"')
                    for each in found
                    if each["table_schema"] == dataset
                },
                datasets=frozenset(
                    each["table_schema"]
                    for each in found
                    if each["table_schema"] not in {"information_schema", "pg_catalog"}
                ),
            )

    @classmethod
    def _of_files(cls, bucket: Path, dataset: str) -> "Contents":
        return cls(
            tables={
                each.name: _rows(each) for each in (bucket / dataset).iterdir() if each.is_dir()
            },
            datasets=frozenset(each.name for each in bucket.iterdir()),
        )

    @property
    def roots(self) -> list[str]:
        """The tables that resources write to."""
        return sorted(name for name in self.tables if "__" not in name and name[0] != "_")

    @property
    def nested(self) -> dict[str, str]:
        """The parent of each nested table."""
        names = (name for name in self.tables if "__" in name and name[0] != "_")
        return {name: name.rpartition("__")[0] for name in sorted(names)}

    def documents(self, root: str) -> list[Row]:
        """Return the rows of a root table with all that is nested in them, as the source had them.

        So a nested row that is lost, there twice or below the wrong parent changes a document.
        """
        below: dict[str, dict[str, list[Row]]] = {}
        for name in self.nested:
            by_parent = below[name] = {}
            for row in sorted(self.tables[name], key=lambda row: row["_dlt_list_idx"]):
                by_parent.setdefault(row["_dlt_parent_id"], []).append(row)

        def document(table: str, row: Row) -> Row:
            own = {name: value for name, value in row.items() if not name.startswith("_dlt")}
            for name, parent in self.nested.items():
                if parent == table:
                    children = below[name].get(row["_dlt_id"], [])
                    own[name.rpartition("__")[2]] = [document(name, child) for child in children]
            return own

        return [document(root, row) for row in self.tables[root]]

    @property
    def load_ids(self) -> Counter[str]:
        """The load ids that dlt has noted as loaded, with the number of their rows."""
        return Counter(row["load_id"] for row in self.tables["_dlt_loads"] if row["status"] == 0)

    @property
    def stored_schema(self) -> dict[str, list[str]]:
        """The columns of each table in the schema that was stored last."""
        newest = max(self.tables["_dlt_version"], key=lambda row: str(row["inserted_at"]))
        schema = json.loads(newest["schema"])
        return {name: sorted(table["columns"]) for name, table in schema["tables"].items()}

    @property
    def cursors(self) -> dict[str, Any]:
        """The cursors that the next run starts from: those of the newest load."""
        states = [
            row
            for row in self.tables["_dlt_pipeline_state"]
            if row["_dlt_load_id"] in self.load_ids
        ]
        newest = max(states, key=lambda row: row["_dlt_load_id"])
        state = json.loads(zlib.decompress(base64.b64decode(newest["state"])))
        cursors = {
            f"{resource}.{path}": cursor["last_value"]
            for source in state.get("sources", {}).values()
            for resource, known in source.get("resources", {}).items()
            for path, cursor in known.get("incremental", {}).items()
        }
        return dict(sorted(cursors.items()))


def _rows(folder: Path) -> list[Row]:
    if (folder / "_delta_log").is_dir():
        from deltalake import DeltaTable

        return DeltaTable(folder).to_pyarrow_table().to_pylist()
    lines = (line for file in folder.glob("*.jsonl*") for line in _opened(file))
    return [json.loads(line) for line in lines]


def _opened(file: Path) -> list[str]:
    packed = file.read_bytes()
    return (gzip.decompress(packed) if file.suffix == ".gz" else packed).decode().splitlines()


def damage(found: Contents, expected: Contents, apart: Collection[str] = ()) -> Iterator[str]:
    """Say in which way `found` is not what an uninterrupted history has left.

    The rows of tables in `apart` are for the caller to compare.
    """
    if found.tables.keys() != expected.tables.keys():
        differing = sorted(found.tables.keys() ^ expected.tables.keys())
        # What begins with an underscore is kept for the loading itself.
        if differing := [name for name in differing if name[0] != "_"]:
            yield f"only one of the two has the tables {differing}"
            return
    for name in found.roots:
        if name not in apart:
            yield from differences(name, found.documents(name), expected.documents(name))
    yield from _loose_ends(found)
    yield from _unknown_loads(found)
    if found.cursors != expected.cursors:
        yield f"the cursors are {found.cursors}, not {expected.cursors}"
    if found.datasets != expected.datasets:
        yield f"the datasets are {sorted(found.datasets)}, not {sorted(expected.datasets)}"


def differences(name: str, found: Iterable[Row], expected: Iterable[Row]) -> Iterator[str]:
    """Say which documents are there too often, and which too seldom."""
    have, want = (
        Counter(json.dumps(row, sort_keys=True, default=str) for row in rows)
        for rows in (found, expected)
    )
    for many, what in ((have - want, "too many"), (want - have, "missing")):
        if many:
            example = next(iter(many))[:300]
            yield f"{name}: {many.total()} of {want.total()} rows {what}, such as {example}"


def _loose_ends(contents: Contents) -> Iterator[str]:
    """Look for rows without their parent or with the wrong root, and for ids that are not unique.

    A document does not show an orphan, and not what `_dlt_root_id` says, by which dlt will delete.
    """
    roots: dict[str, dict[str, str | None]] = {}
    for name in [*contents.roots, *sorted(contents.nested, key=lambda name: name.count("__"))]:
        rows = contents.tables[name]
        ids = Counter(row["_dlt_id"] for row in rows)
        if twice := sum(count - 1 for count in ids.values()):
            yield f"{name}: {twice} rows have the _dlt_id of another one"
        if name not in contents.nested:
            roots[name] = {row["_dlt_id"]: row["_dlt_id"] for row in rows}
            continue
        above = roots[contents.nested[name]]
        if orphans := sum(1 for row in rows if row["_dlt_parent_id"] not in above):
            yield f"{name}: {orphans} orphans"
        roots[name] = {row["_dlt_id"]: above.get(row["_dlt_parent_id"]) for row in rows}
        wrong = [
            row
            for row in rows
            if "_dlt_root_id" in row and row["_dlt_root_id"] != roots[name][row["_dlt_id"]]
        ]
        if wrong:
            yield f"{name}: {len(wrong)} rows have a _dlt_root_id that is not their root's"


def _unknown_loads(contents: Contents) -> Iterator[str]:
    if twice := [load_id for load_id, count in contents.load_ids.items() if count > 1]:
        yield f"_dlt_loads: {twice} there twice"
    for name in contents.roots:
        unknown = {row["_dlt_load_id"] for row in contents.tables[name]} - set(contents.load_ids)
        if unknown:
            yield f"{name}: rows of {sorted(unknown)}, which is not in _dlt_loads"
