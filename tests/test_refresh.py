"""A refresh happens once for each load, whatever becomes of the processes that load."""

import dlt
import pytest

from dagster_dlt.errors import ResourcesFailedError
from places import contents, expected, load, retry, shop

on = pytest.mark.parametrize
servers_and_files = on("place", ["duckdb", "postgres"], indirect=True)
postgres_only = on("place", ["postgres"], indirect=True)

ANEW = {"options": {"refresh": "drop_resources"}}


def refreshed(caplog):
    """Return what refreshes have said so far."""
    said = [line for line in caplog.messages if line.startswith("Refresh")]
    caplog.clear()
    return said


@on(
    ("place", "mode"),
    [("duckdb", "drop_sources"), ("postgres", "drop_resources"), ("postgres", "drop_data")],
    indirect=["place"],
)
def test_a_retry_of_a_refresh_that_died_with_its_disk_begins_anew(place, mode):
    anew = {"options": {"refresh": mode}}
    load(place.pipeline(), shop(3))
    with place.dying():
        load(place.pipeline(), shop(4), run_id="second", **anew)
    place.lose_disk()
    retry(place.pipeline(), shop(4), run_id="second", **anew)

    assert contents(place) == expected(4)
    load(place.pipeline(), shop(5))
    assert contents(place) == expected(5)


@servers_and_files
def test_a_refresh_that_died_is_made_up_for_by_a_run_that_does_not_ask_for_it(place, caplog):
    load(place.pipeline(), shop(3))
    with place.dying():
        load(place.pipeline(), shop(3).with_resources("events"), run_id="second", **ANEW)
    place.lose_disk()
    refreshed(caplog)
    load(place.pipeline(), shop(3), run_id="third")

    # The cursor at the destination was behind rows that had been dropped.
    assert contents(place) == expected(3)
    (line,) = refreshed(caplog)
    assert "forgets cursors events.day." in line
    load(place.pipeline(), shop(4), run_id="fourth")
    assert contents(place) == expected(4)
    assert refreshed(caplog) == []


@postgres_only
def test_a_run_of_other_resources_leaves_a_refresh_that_died_to_those_it_concerns(place, caplog):
    load(place.pipeline(), shop(3))
    with place.dying():
        load(place.pipeline(), shop(3).with_resources("events"), run_id="second", **ANEW)
    place.lose_disk()
    refreshed(caplog)
    load(place.pipeline(), shop(4).with_resources("notes"), run_id="third")

    assert refreshed(caplog) == []
    load(place.pipeline(), shop(4), run_id="fourth")
    assert contents(place) == expected(4)


@postgres_only
def test_a_refresh_that_was_aborted_is_made_up_for(place):
    load(place.pipeline(), shop(3))
    with place.dying():
        load(place.pipeline(), shop(3), run_id="second", **ANEW)
    load(place.pipeline(), shop(3), run_id="third", on_pending="abort")

    assert contents(place) == expected(3)


@postgres_only
@on("moment", ["before commit", "after commit"])
def test_a_retry_finishes_a_refresh_whose_disk_is_there(place, moment, caplog):
    load(place.pipeline(), shop(3))
    with place.dying(moment):
        load(place.pipeline(), shop(4), run_id="second", **ANEW)
    refreshed(caplog)
    retry(place.pipeline(), shop(4), run_id="second", **ANEW)

    assert refreshed(caplog) == []
    assert contents(place) == expected(4)


@postgres_only
def test_a_resource_that_fails_after_its_tables_were_dropped_begins_anew_the_next_time(place):
    def source(*names):
        def bad(at=dlt.sources.incremental("at", initial_value=0)):
            yield [{"at": at, "name": name} for at, name in enumerate(names, 1)]

        def fine():
            yield {"id": 1}

        def build():
            columns = {"name": {"data_type": "text", "precision": 3}}
            return dlt.resource(bad, name="bad", columns=columns), dlt.resource(fine, name="fine")

        return dlt.source(build, name="shop")()

    load(place.pipeline(), source("tea", "jam"))
    with pytest.raises(ResourcesFailedError, match="'bad' failed in load"):
        load(place.pipeline(), source("tea", "too long"), run_id="second", **ANEW)
    load(place.pipeline(), source("tea", "jam"), run_id="third")

    assert place.column("select name from raw.bad") == ["jam", "tea"]


@postgres_only
def test_state_that_a_refresh_forgot_does_not_come_back_from_the_load_before(place):
    """State that a resource does not write anew is absent, and not only older."""

    def source(*, remembers):
        def counts():
            state = dlt.current.resource_state() if remembers else {}
            state["calls"] = state.get("calls", 0) + 1
            yield {"calls": state["calls"]}

        return dlt.source(lambda: dlt.resource(counts, name="counts"), name="shop")()

    load(place.pipeline(), source(remembers=True))
    load(place.pipeline(), source(remembers=False), **ANEW)
    load(place.pipeline(), source(remembers=True))

    assert place.column("select calls from raw.counts") == [1, 1]
