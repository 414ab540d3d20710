"""What the histories are judged by does find damage: done by hand, and by dlt alone."""

from copy import deepcopy
from dataclasses import replace

import pytest
from doings import Doings
from history import Places
from plan import Cell

from contents import damage


@pytest.fixture(scope="module")
def reference(places):
    return places.reference("duckdb", "truncate-and-insert")


@pytest.fixture
def whole(reference):
    """Contents in which nothing is wrong."""
    return reference.after[3]


@pytest.fixture
def broken(whole):
    """The same contents, for a test to break."""
    return replace(whole, tables=deepcopy(whole.tables))


def row_twice(contents):
    contents.tables["events"].append(contents.tables["events"][0])


def value_changed(contents):
    contents.tables["accounts"][0]["text"] = "another"


def row_lost(contents):
    contents.tables["prices"].pop()


def nested_row_lost(contents):
    contents.tables["profiles__lines__marks"].pop()


def nested_row_below_another_parent(contents):
    moved = contents.tables["tickets__lines"][0]
    moved["_dlt_parent_id"] = next(
        row["_dlt_id"]
        for row in contents.tables["tickets"]
        if row["_dlt_id"] != moved["_dlt_parent_id"]
    )


def column_missing(contents):
    for row in contents.tables["tickets"]:
        del row["mood"]


def orphan(contents):
    row = contents.tables["log__lines"][0]
    contents.tables["log__lines"].append({**row, "_dlt_id": "new", "_dlt_parent_id": "nobody"})


def wrong_root(contents):
    contents.tables["accounts__lines"][0]["_dlt_root_id"] = "nobody"


def same_id(contents):
    first, second, *_ = contents.tables["notes"]
    first["_dlt_id"] = second["_dlt_id"]


def load_twice(contents):
    contents.tables["_dlt_loads"].append(contents.tables["_dlt_loads"][-1])


def load_unknown(contents):
    contents.tables["_dlt_loads"].pop(1)


def cursor_behind(contents):
    states = contents.tables["_dlt_pipeline_state"]
    states.remove(max(states, key=lambda row: row["_dlt_load_id"]))


DAMAGE = {
    row_twice: "events: 1 of 18 rows too many",
    value_changed: "accounts: 1 of 8 rows too many",
    row_lost: "prices: 1 of 5 rows missing",
    nested_row_lost: "profiles: 1 of 8 rows missing",
    nested_row_below_another_parent: "tickets: 2 of 7 rows missing",
    column_missing: "tickets: 7 of 7 rows missing",
    orphan: "log__lines: 1 orphans",
    wrong_root: "accounts__lines: 1 rows have a _dlt_root_id that is not their root's",
    same_id: "notes: 1 rows have the _dlt_id of another one",
    load_twice: "there twice",
    load_unknown: "which is not in _dlt_loads",
    cursor_behind: "the cursors are {'events.at': 11,",
}


def test_a_history_without_damage_has_none(reference, whole):
    doings = reference.history.doings("kept")

    problems = [*damage(whole, whole), *doings.problems(whole, whole), *doings.unreported()]

    assert problems == []


@pytest.mark.parametrize("do", DAMAGE, ids=lambda do: do.__name__)
def test_damage_at_the_destination_is_seen(broken, whole, do):
    do(broken)

    assert DAMAGE[do] in "\n".join(damage(broken, whole))


def test_a_table_that_is_missing_is_seen(broken, whole):
    del broken.tables["events__lines__marks"]

    assert list(damage(broken, whole)) == [
        "only one of the two has the tables ['events__lines__marks']"
    ]


def test_a_dataset_that_is_left_behind_is_seen(whole):
    broken = replace(whole, datasets=whole.datasets | {"raw_staging_1"})

    assert any(problem.startswith("the datasets are") for problem in damage(broken, whole))


@pytest.fixture
def lines(reference):
    """What the processes of the history wrote, for a test to tell something else."""
    return reference.history.journal()


def test_half_of_an_extraction_is_seen(reference, broken, whole):
    broken.tables["log"].pop()
    doings = reference.history.doings("kept")

    assert "1 of 7 rows missing" in "\n".join(doings.problems(broken, whole))


def test_rows_of_an_extraction_that_never_became_a_load_are_seen(reference, whole, lines):
    told = [line for line in lines if line["number"] != 3 or line["what"] in {"began", "called"}]

    problems = "\n".join(Doings(told, reference.history.ticks, "lost").problems(whole, whole))

    assert "notes, not loaded as None: 4 of 0 rows too many" in problems


def test_a_package_that_is_never_loaded_is_seen(reference, broken, whole, lines):
    load_id = max(row["load_id"] for row in broken.tables["_dlt_loads"])
    broken.tables["_dlt_loads"][:] = [
        row for row in broken.tables["_dlt_loads"] if row["load_id"] != load_id
    ]

    problems = "\n".join(Doings(lines, reference.history.ticks, "kept").problems(broken, whole))

    assert f"log: {load_id} was packed, and never loaded" in problems
    assert f"_dlt_loads: ['{load_id}'] no longer there" in problems


def test_a_second_extraction_by_a_re_execution_is_seen(reference, whole, lines):
    again = [{**line, "number": 4} for line in lines if line["number"] == 3]
    told = [*lines, *(line for line in again if line["what"] in {"began", "called"})]
    doings = Doings(told, {**reference.history.ticks, 4: 3}, "kept")

    problems = "\n".join(doings.problems(whole, whole))

    assert "was committed, and extracted again: ['accounts', 'events'" in problems


@pytest.mark.parametrize("what", ["yielded", "report"])
def test_an_asset_that_is_not_reported_is_seen(reference, lines, what):
    told = [line for line in lines if line["number"] != 3 or line["what"] != what]

    assert list(Doings(told, reference.history.ticks, "kept").unreported())


def test_dlt_alone_is_damaged_where_the_disk_is_lost(tmp_path, nursery, postgres):
    places = Places(tmp_path, nursery, postgres, plain=True)

    verdict = places.play(Cell("duckdb", "lost"), "completing:new")

    assert "events: 6 of 12 rows too many" in str(verdict)
