"""What a snapshot says of a source, and how it is made and read."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from inspect import getsource
from typing import Any, Final, cast

from dlt.extract import DltSource
from pydantic import TypeAdapter, ValidationError

from dagster_dlt import _dlt
from dagster_dlt._factories import Factory
from dagster_dlt._facts import KnownCursor, KnownResource
from dagster_dlt.errors import SnapshotError, SnapshotWarning, listed

#: The form of what is written; another one is not read.
VERSION: Final = 1
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

    def said(self) -> dict[str, Any]:
        """Return what is written down, ready for JSON."""
        said = {
            "version": VERSION,
            "source": self.source,
            "code": self.code,
            "resources": [_told(each) for each in self.resources],
        }
        return {"checksum": _digest(said), **said}

    def is_of(self, factory: Factory[DltSource]) -> bool:
        """Tell whether the function is the same as when this was written, as far as one can."""
        return self.code is None or code_of(factory.inner) in {self.code, None}

    def changes(self, before: "Content | None") -> dict[str, list[str]]:
        """Return the names of resources that are new, gone, or different from another content."""
        old = {each.name: each for each in before.resources} if before else {}
        new = {each.name: each for each in self.resources}
        return {
            "added": [name for name in new if name not in old],
            "removed": [name for name in old if name not in new],
            "changed": [name for name, each in new.items() if name in old and old[name] != each],
        }


@dataclass(frozen=True)
class Place:
    """Where contents are kept, in the words of errors.

    Attributes:
        name: What it is called.
        remedy: How what is there is written anew.
    """

    name: str
    remedy: str

    def read(self, said: object) -> Content:
        """Return what was written down there.

        Raises:
            SnapshotError: it is of another version, or something is missing in it.
        """
        version = said.get("version") if isinstance(said, Mapping) else None
        if not isinstance(said, Mapping) or version != VERSION:
            problem = f"is of version {version}, where this library reads {VERSION}"
            raise SnapshotError(self.name, problem, self.remedy)
        rest = {key: value for key, value in said.items() if key != "checksum"}
        try:
            resources = tuple(_RESOURCES.validate_python(rest["resources"]))
            content = Content(str(rest["source"]), resources, rest.get("code"))
        except (KeyError, ValidationError) as error:
            problem = f"is not complete, or has what does not belong there ({error})"
            raise SnapshotError(self.name, problem, self.remedy) from error
        if not resources:
            raise SnapshotError(self.name, "has no resources", self.remedy)
        if said.get("checksum") != _digest(rest):
            text = (
                f"Snapshot {self.name!r} was edited by hand, and is used as it is. {self.remedy}."
            )
            warnings.warn(text, SnapshotWarning, stacklevel=2)
        return content

    def build(self, builder: Factory[DltSource], code: str | None) -> Content:
        """Build a source, and return what it has.

        Args:
            builder: Builds it, without a run.
            code: What tells later whether the function was the same.

        Raises:
            SnapshotError: it cannot be built, or has no resources.
        """
        if builder.needs_a_run:
            names = ", ".join(builder.needs_a_run)
            problem = f"cannot be written: {builder.name!r} needs a run, for {names}"
            remedy = "Give it a function that builds the source without arguments"
            raise SnapshotError(self.name, problem, remedy)
        try:
            source = builder()
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            problem = f"cannot be written: {builder.name!r} failed ({cause})"
            remedy = "Write it where the source can be built, with its configuration"
            raise SnapshotError(self.name, problem, remedy) from error
        # As it will be read again.
        told = [_told(each) for each in _dlt.known_resources(source)]
        resources = tuple(_RESOURCES.validate_python(told))
        if not resources:
            problem = f"cannot be written: the source of {builder.name!r} has no resources"
            raise SnapshotError(self.name, problem, "Select some")
        return Content(source.name, resources, code)


def code_of(function: Any) -> str | None:  # noqa: ANN401 - anything that can be called
    """Return what changes with the code of a function; None where its code is not there."""
    try:
        return sha256(getsource(function).encode()).hexdigest()[:12]
    except (OSError, TypeError):
        return None


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
