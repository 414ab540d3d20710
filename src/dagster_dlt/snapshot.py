"""`DltSourceSnapshot`: what a source has, in a file, so that definitions need not build it."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from inspect import getsource, unwrap
from pathlib import Path
from typing import Any, Final, cast

from dlt.extract import DltSource
from pydantic import TypeAdapter, ValidationError

from dagster_dlt import _dagster, _dlt
from dagster_dlt._factories import Factory
from dagster_dlt._facts import KnownCursor, KnownResource
from dagster_dlt.errors import SnapshotError, SnapshotWarning, listed

#: The form of the file; another one is not read.
VERSION: Final = 1
COMMAND: Final = "dagster-dlt -m MODULE snapshots refresh"
_RESOURCES: Final = TypeAdapter(list[KnownResource])


@dataclass(frozen=True)
class Content:
    """What a snapshot says.

    Attributes:
        source: Name of the source.
        resources: Its selected resources.
        code: Tells whether the function was the same when the snapshot was written.
    """

    source: str
    resources: tuple[KnownResource, ...]
    code: str | None = None

    def text(self) -> str:
        """Return what is written to the file."""
        said = {
            "version": VERSION,
            "source": self.source,
            "code": self.code,
            "resources": [_told(each) for each in self.resources],
        }
        return json.dumps({"checksum": _digest(said), **said}, indent=2, ensure_ascii=False) + "\n"

    def changes(self, before: "Content | None") -> dict[str, list[str]]:
        """Return the names of resources that are new, gone, or different from another content."""
        old = {each.name: each for each in before.resources} if before else {}
        new = {each.name: each for each in self.resources}
        return {
            "added": [name for name in new if name not in old],
            "removed": [name for name in old if name not in new],
            "changed": [name for name, each in new.items() if name in old and old[name] != each],
        }


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
        if content.code is None or self._code(factory) in {content.code, None}:
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
        path = str(self.path)
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SnapshotError(path, f"cannot be read ({error})", self.remedy) from error
        version = said.get("version") if isinstance(said, Mapping) else None
        if version != VERSION:
            problem = f"is of version {version}, where this library reads {VERSION}"
            raise SnapshotError(path, problem, self.remedy)
        checksum = said.pop("checksum", None)
        try:
            resources = tuple(_RESOURCES.validate_python(said["resources"]))
            content = Content(str(said["source"]), resources, said.get("code"))
        except (KeyError, ValidationError) as error:
            problem = f"is not complete, or has what does not belong there ({error})"
            raise SnapshotError(path, problem, self.remedy) from error
        if not resources:
            raise SnapshotError(path, "has no resources", self.remedy)
        if checksum != _digest(said):
            text = f"Snapshot {path!r} was edited by hand, and is used as it is. {self.remedy}."
            warnings.warn(text, SnapshotWarning, stacklevel=2)
        return content

    def _content(self, factory: Factory[DltSource] | None) -> Content:
        builder = self._build or factory
        path = str(self.path)
        if builder is None:
            raise SnapshotError(path, "has nothing to be written from", "Give it the function")
        if builder.needs_a_run:
            names = ", ".join(builder.needs_a_run)
            problem = f"cannot be written: {builder.name!r} needs a run, for {names}"
            remedy = "Give DltSourceSnapshot a `build` function without arguments"
            raise SnapshotError(path, problem, remedy)
        try:
            source = builder()
        except Exception as error:
            problem = (
                f"cannot be written: {builder.name!r} failed ({type(error).__name__}: {error})"
            )
            remedy = "Run the command where the source can be built, with its configuration"
            raise SnapshotError(path, problem, remedy) from error
        # As it will be read again.
        told = [_told(each) for each in _dlt.known_resources(source)]
        resources = tuple(_RESOURCES.validate_python(told))
        if not resources:
            problem = f"cannot be written: the source of {builder.name!r} has no resources"
            raise SnapshotError(path, problem, "Select some")
        return Content(source.name, resources, self._code(factory) if factory else None)

    def _code(self, factory: Factory[DltSource]) -> str | None:
        try:
            return sha256(getsource(unwrap(factory.inner)).encode()).hexdigest()[:12]
        except (OSError, TypeError):
            return None

    def _write(self, content: Content) -> Content:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        new.write_text(content.text(), encoding="utf-8")
        # In one go: code servers load it while it is written.
        new.replace(self.path)
        return content


def _told(resource: KnownResource) -> dict[str, Any]:
    """Return what is said of a resource, without what goes without saying."""
    usual = vars(KnownResource(resource.name))
    told = {name: value for name, value in vars(resource).items() if value != usual[name]}
    lost: list[str] = []
    plain = {name: _plain(value, name, lost) for name, value in told.items()}
    if lost:
        text = (
            f"The snapshot of resource {resource.name!r} leaves out {listed(lost)}, which JSON "
            "cannot have. Set it in the translator's settings."
        )
        warnings.warn(text, SnapshotWarning, stacklevel=2)
    return {"name": resource.name, **plain}


def _plain(value: object, name: str, lost: list[str]) -> Any:  # noqa: ANN401 - what JSON has
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        items = {str(key): _plain(each, f"{name}.{key}", lost) for key, each in value.items()}
        return {key: each for key, each in items.items() if each is not _LOST}
    if isinstance(value, KnownCursor):
        return asdict(value)
    # Exactly these: much that is a tuple as well is no list.
    if type(value) in (list, tuple, set, frozenset):
        parts: Any = (
            sorted(cast("set[str]", value)) if isinstance(value, set | frozenset) else value
        )
        return [_plain(each, name, lost) for each in parts]
    lost.append(name)
    return _LOST


_LOST: Final = object()


def _digest(said: Mapping[str, Any]) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
