"""Where the games of this folder are played."""

import pytest
from game import Field


@pytest.fixture
def field(tmp_path, postgres) -> Field:
    folder = tmp_path / "field"
    folder.mkdir()
    return Field(folder, postgres)
