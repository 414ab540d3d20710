"""The public surface is what `__all__` says, and nothing else."""

import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dagster_dlt
from dagster_dlt import errors

DOCS = Path(__file__).parents[1] / "docs"
MODULES = {module.name for module in pkgutil.iter_modules(dagster_dlt.__path__)}


def test_all_lists_every_public_member_in_order():
    members = {
        name
        for name, value in vars(dagster_dlt).items()
        if not name.startswith("_") and name not in MODULES and not inspect.ismodule(value)
    }

    assert list(dagster_dlt.__all__) == sorted(members | {"__version__"})


@pytest.mark.parametrize("name", sorted(set(dagster_dlt.__all__) - {"__version__"}))
def test_every_public_name_says_what_it_is(name):
    member = getattr(dagster_dlt, name)

    assert name == "DltEventType" or (inspect.getdoc(member) or "").strip()


def test_importing_the_library_warns_of_nothing():
    code = "import warnings; warnings.simplefilter('error'); import dagster_dlt"
    # dagster and dlt are imported first: what they warn of at import is theirs.
    done = subprocess.run(
        [sys.executable, "-c", f"import dagster, dlt; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_every_error_is_in_the_tree_at_the_top_of_its_file():
    tree = re.findall(r"^ *[│├└─ ]*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    classes = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.DagsterDltError)
    ]

    assert sorted(tree) == sorted(classes)


def test_every_error_has_a_row_in_the_reference():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")

    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.DagsterDltError):
            assert f"`{name}`" in page, name
