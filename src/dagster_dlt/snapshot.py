"""`DltSourceSnapshot`: what a source has, in a file, so that definitions need not build it."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dlt.extract import DltSource

from dagster_dlt import _dagster, _dlt
from dagster_dlt._contents import Content, Place, code_of
from dagster_dlt._factories import Factory
from dagster_dlt.errors import SnapshotError, SnapshotWarning

COMMAND: Final = "dagster-dlt -m MODULE snapshots refresh"


@dataclass
class Refresh:
    """Snapshots that are written anew, or compared, as their definitions are loaded."""

    #: Whether they are written, rather than compared only.
    writes: bool
    #: What became of each: its path, what it says now, and what it said before.
    seen: list[tuple[Path, Content, Content | None]] = field(default_factory=list)


_REFRESH: ContextVar[Refresh | None] = ContextVar("dagster_dlt_refresh", default=None)


@contextmanager
def refreshing(*, writes: bool) -> Iterator[Refresh]:
    """Have each snapshot of the definitions that are loaded in this block built anew."""
    refresh = Refresh(writes)
    token = _REFRESH.set(refresh)
    try:
        yield refresh
    finally:
        _REFRESH.reset(token)


class DltSourceSnapshot:
    """What the source of a function has, in a file that belongs to the code.

    With it, loading definitions neither calls the function nor needs what the function needs. It is
    written by `dagster-dlt -m MODULE snapshots refresh`, for example in CI, and, where it is
    missing or the function has changed, by `dagster dev` and `dg dev`.

    Args:
        path: The file, which ends in `.json`. A relative path starts at the working directory.
        build: Builds the source for the snapshot, without arguments. Needed where the function
            asks for what only a run has, such as `context`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import dlt
        >>> from dagster_dlt import DltSourceSnapshot, build_dlt_asset_specs
        >>> @dlt.source
        ... def shop(token=dlt.secrets.value):
        ...     return dlt.resource([{"id": 1}], name="orders")
        >>> snapshot = DltSourceSnapshot(
        ...     Path(tempfile.mkdtemp()) / "shop.json", build=lambda: shop(token="for the snapshot")
        ... )
        >>> snapshot.write()
        >>> pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")
        >>> specs = build_dlt_asset_specs(shop, pipeline, snapshot=snapshot)
        >>> [spec.key.to_user_string() for spec in specs]
        ['dlt_shop_orders']
    """

    def __init__(self, path: str | Path, build: Callable[[], DltSource] | None = None) -> None:
        self.path = Path(path)
        self._build = Factory(build, DltSource) if build else None

    @property
    def remedy(self) -> str:
        """What to do when the source is different by now."""
        return f"Refresh snapshot {str(self.path)!r} with `{COMMAND}`"

    @property
    def _place(self) -> Place:
        return Place(str(self.path), self.remedy)

    def write(self, function: Callable[..., DltSource] | None = None) -> None:
        """Build the source, and write what it has.

        Args:
            function: The function that builds it, if the snapshot has none of its own.

        Raises:
            SnapshotError: it cannot be built, or has no resources.
        """
        self._write(self._content(Factory(function, DltSource) if function else None))

    def source(self, factory: Factory[DltSource]) -> DltSource:
        """Return a stand-in for the source of a function.

        Raises:
            SnapshotError: the file is missing, or cannot be used.
        """
        content = self._current(factory)
        return _dlt.stand_in_source(content.source, content.resources)

    def _current(self, factory: Factory[DltSource]) -> Content:
        if refresh := _REFRESH.get():
            return self._refreshed(factory, refresh)
        if not self.path.is_file():
            if _dagster.is_in_development():
                return self._write(self._content(factory))
            raise SnapshotError(str(self.path), "is not there", f"Write it with `{COMMAND}`")
        content = self.read()
        if content.is_of(factory):
            return content
        problem = f"Snapshot {str(self.path)!r} was written for other code of {factory.name!r}"
        if _dagster.is_in_development():
            try:
                return self._write(self._content(factory))
            except SnapshotError as error:
                problem += f", and cannot be refreshed ({error})"
        warnings.warn(f"{problem}. {self.remedy}.", SnapshotWarning, stacklevel=2)
        return content

    def _refreshed(self, factory: Factory[DltSource], refresh: Refresh) -> Content:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SnapshotWarning)  # it is written anew
                before = self.read() if self.path.is_file() else None
        except SnapshotError:
            before = None
        content = self._content(factory)
        refresh.seen.append((self.path, content, before))
        return self._write(content) if refresh.writes else content

    def read(self) -> Content:
        """Return what the file says.

        Raises:
            SnapshotError: it cannot be read, is of another version, or something is missing in it.
        """
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problem = f"cannot be read ({error})"
            raise SnapshotError(str(self.path), problem, self.remedy) from error
        return self._place.read(said)

    def _content(self, factory: Factory[DltSource] | None) -> Content:
        builder = self._build or factory
        if builder is None:
            problem = "has nothing to be written from"
            raise SnapshotError(str(self.path), problem, "Give it the function")
        return self._place.build(builder, code_of(factory.inner) if factory else None)

    def _write(self, content: Content) -> Content:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        text = json.dumps(content.said(), indent=2, ensure_ascii=False)
        new.write_text(f"{text}\n", encoding="utf-8")
        # In one go: code servers load it while it is written.
        new.replace(self.path)
        return content
