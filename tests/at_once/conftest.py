"""Where the games of this folder are played."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from game import Field

from nursery import Nursery


@pytest.fixture(scope="session")
def field(tmp_path_factory, postgres) -> Iterator[Field]:
    nursery = Nursery(Path(__file__).with_name("player.py"))
    yield Field(tmp_path_factory.mktemp("field"), nursery, postgres, threads=True)
    nursery.close()
