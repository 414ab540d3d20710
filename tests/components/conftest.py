"""Fixtures for tests of the component and its scaffolder."""

from collections.abc import Iterator

import pytest
from dagster.components.testing import create_defs_folder_sandbox
from projects import Project


@pytest.fixture
def project() -> Iterator[Project]:
    """Return an empty project."""
    with create_defs_folder_sandbox() as sandbox:
        yield Project(sandbox)
