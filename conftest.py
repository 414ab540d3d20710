"""Runs every Python block of README.md, docs/ and the examples, and every docstring example."""

import os
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

HOME = "_home"


def start(namespace: dict[str, Any]) -> None:
    """Give a document a folder of its own; its blocks share one namespace, from top to bottom."""
    folder = tempfile.TemporaryDirectory()
    namespace[HOME] = (os.getcwd(), dict(os.environ), folder)  # noqa: PTH109 - put back as it was
    os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", DLT_DATA_DIR=folder.name)
    os.chdir(folder.name)
    # dlt and Dagster ask functions for their module, which a block is not.
    namespace["__name__"] = "__main__"


def stop(namespace: dict[str, Any]) -> None:
    """Put everything back."""
    before, environment, folder = namespace.pop(HOME)
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environment)
    folder.cleanup()


pages = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    # In a pattern `**` stands for one folder.
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md", "examples/**/*.md"],
    excludes=[".venv/**"],
    setup=start,
    teardown=stop,
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["src" + "/**" * depth + "/*.py" for depth in range(1, 5)],
    setup=start,
    teardown=stop,
)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts: a third of their time tests wait."""
    return (os.cpu_count() or 1) + 1


pytest_collect_file = (pages + docstrings).pytest()
