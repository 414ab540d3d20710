"""A load says how far it is while it goes on."""

import threading

import dagster as dg
import pytest
from dlt.common.runtime.collector_base import Collector

from dagster_dlt import DagsterDltResource
from dagster_dlt.loading.progress import Progress
from dagster_dlt.loading.worker import stream
from sources import assets_of, shop


class Inner(Collector):
    """A user's collector that notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.steps: list[str] = []

    def update(self, *counted, **_more):
        self.seen.append(counted[:3])

    def on_start_trace_step(self, _trace, step, _pipeline):
        self.steps.append(step)

    def _start(self, step):
        self.seen.append(step)

    def _stop(self):
        self.seen.append("stop")


def test_a_line_comes_at_the_interval_and_at_the_end_of_a_stage():
    now = [0.0]
    lines: list[str] = []
    with Progress(Inner(), lines.append, every=10, clock=lambda: now[0])(
        "Extract shop"
    ) as progress:
        for second in range(25):
            now[0] = float(second)
            progress.update("orders", 100)
        progress.update("Resources", 1, 2)

    assert lines == [
        "Extract shop, 10.0 s: 1,100 rows, 110 rows/s (orders 1,100)",
        "Extract shop, 20.0 s: 2,100 rows, 105 rows/s (orders 2,100)",
        "Extract shop, 24.0 s: 1 of 2 resources; 2,500 rows, 104 rows/s (orders 2,500)",
    ]


def test_the_users_own_collector_hears_everything():
    inner = Inner()

    with Progress(inner, lambda _line: None)("Load shop") as progress:
        progress.update("Jobs", 1, 4)

    assert inner.seen == ["Load shop", ("Jobs", 1, 4), "stop"]


def test_the_users_own_collector_is_told_of_every_step(make_pipeline, materialize):
    inner = Inner()

    materialize(assets_of(shop(), make_pipeline(progress=inner)))

    assert [step for step in inner.steps if step != "sync"] == ["extract", "normalize", "load"]
    assert "Extract shop" in inner.seen


def test_the_event_log_says_how_far_a_load_is(pipeline):
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [assets_of(shop(), pipeline)],
            resources={"dlt_resource": DagsterDltResource()},
            instance=instance,
        )
        messages = [entry.user_message for entry in instance.all_logs(result.run_id)]

    for stage in ("Extract shop", "Normalize shop", "Load shop"):
        assert any(message.startswith(stage) for message in messages), stage


def test_what_is_handed_over_is_read_while_the_work_goes_on():
    read = threading.Event()

    def work(hand):
        hand(1)
        assert read.wait(10)
        hand(2)

    seen = []
    for item in stream(work, idle=10, on_idle=lambda _seconds: None):
        seen.append(item)
        read.set()

    assert seen == [1, 2]


def test_an_error_of_the_work_is_raised_where_it_is_read():
    def work(hand):
        hand(1)
        message = "broken"
        raise ValueError(message)

    read = stream(work, idle=10, on_idle=lambda _seconds: None)

    assert next(read) == 1
    with pytest.raises(ValueError, match="broken"):
        next(read)


def test_silence_is_noticed_again_and_again():
    quiet: list[float] = []
    enough = threading.Event()

    def work(_hand):
        assert enough.wait(10)

    def note(seconds):
        quiet.append(seconds)
        if len(quiet) == 3:
            enough.set()

    assert list(stream(work, idle=0.01, on_idle=note)) == []
    assert quiet[:3] == pytest.approx([0.01, 0.02, 0.03])
