"""Fixtures for tests of the component and its scaffolder."""

from collections.abc import Callable, Iterator

import psycopg2
import pytest
from api import Api, serve
from dagster.components.testing import create_defs_folder_sandbox
from projects import Project

from postgres import for_sqlalchemy


@pytest.fixture
def project() -> Iterator[Project]:
    """Return an empty project."""
    with create_defs_folder_sandbox() as sandbox:
        yield Project(sandbox)


@pytest.fixture
def api() -> Iterator[Api]:
    """A REST API of a shop."""
    with serve() as running:
        yield running


@pytest.fixture
def crm(postgres: Callable[..., str]) -> str:
    """A database of a shop."""
    url = postgres()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("create table customers (id int primary key, name text)")
        cursor.execute("insert into customers values (1, 'Ada'), (2, 'Bo')")
        cursor.execute("create table orders (id int primary key, placed_at timestamp)")
        cursor.execute(
            "insert into orders values (1, '2024-05-01 10:00'), (2, '2024-05-02 10:00'),"
            " (3, '2024-05-03 10:00')"
        )
    connection.close()
    return for_sqlalchemy(url)
