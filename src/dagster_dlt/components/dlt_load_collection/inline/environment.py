"""`{{ env.X }}`: templates that wait for the process that runs, since there the secrets are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Protocol

import dagster as dg


class _Placeholder(str):
    """A text that Jinja's filters `int` and `float` take for a number as well."""

    __slots__ = ()

    def __float__(self) -> float:
        return 1.0


#: What stands for a variable while definitions are loaded.
PLACEHOLDER: Final = _Placeholder("known-when-it-runs")


class Missing(LookupError):  # noqa: N818 - a condition, which an error of ours reports
    """A template asks for a variable that is not set."""

    def __init__(self, variable: str, field: str) -> None:
        self.variable = variable
        self.field = field
        super().__init__(variable, field)


@dataclass(frozen=True)
class Waiting:
    """A template that asks for the environment, with all else that it may ask for."""

    text: str
    scope: Mapping[str, Any]
    #: Where it stands, such as `source.rest_api.client.auth.token`.
    field: str

    def filled(self, environment: "Environment") -> object:
        """Return what the template says.

        Raises:
            Missing: it asks for a variable that is not set.
        """
        native = _native()
        try:
            return native.rendered(self.text, {**self.scope, "env": environment})
        except native.NOT_SET:
            raise Missing(environment.last_missing or "?", self.field) from None


class Environment(Protocol):
    """What `env` is in a template."""

    last_missing: str | None

    def __call__(self, key: str, default: object = ...) -> object:
        """Return a variable, or the default."""

    def __getattr__(self, key: str) -> object: ...


class Variables:
    """The variables of this process, for the process that runs; keeps what was asked for."""

    def __init__(self) -> None:
        self.last_missing: str | None = None
        self.found: dict[str, str] = {}

    def __call__(self, key: str, default: object = ...) -> object:
        """Return a variable, or the default, or else what fails as soon as it is used."""
        value = os.environ.get(key)
        if value is not None:
            self.found[key] = value
            return value
        if default is not ...:
            return default
        self.last_missing = key
        return _native().NotSet(name=key)

    def __getattr__(self, key: str) -> object:
        if key.startswith(("jinja", "_")):  # Jinja asks objects whether they are its own
            raise AttributeError(key)
        return self(key)


class Placeholders:
    """Says the same of every variable, for definitions."""

    last_missing: str | None = None

    def __call__(self, key: str, default: object = ...) -> object:
        """Return the default, or what stands for a variable."""
        del key
        return PLACEHOLDER if default is ... or default is None else default

    def __getattr__(self, key: str) -> object:
        if key.startswith(("jinja", "_")):
            raise AttributeError(key)
        return PLACEHOLDER


def settled(context: dg.ResolutionContext, value: object, field: str) -> Any:  # noqa: ANN401 - YAML
    """Resolve the templates in `value`, but for those that ask for the environment.

    Args:
        context: Dagster's scope, and where the value was read.
        value: What the YAML says.
        field: Where it stands, for errors.

    Returns:
        The same with values in the place of templates, or with `Waiting` ones.
    """
    if isinstance(value, Mapping):
        return {k: settled(context.at_path(k), v, f"{field}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [settled(context.at_path(i), v, f"{field}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    if _native().asks_for("env", value):
        return Waiting(value, context.scope, field)
    return context.resolve_value(value)


def filled(value: object, environment: Environment) -> Any:  # noqa: ANN401 - YAML
    """Return what `settled` has left to wait, with the environment.

    Raises:
        Missing: a template asks for a variable that is not set.
    """
    if isinstance(value, Mapping):
        return {key: filled(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, environment) for inner in value]
    return value.filled(environment) if isinstance(value, Waiting) else value


def waits(value: object) -> bool:
    """Tell whether something in `value` waits for the environment."""
    if isinstance(value, Mapping):
        return any(map(waits, value.values()))
    if isinstance(value, list):
        return any(map(waits, value))
    return isinstance(value, Waiting)


def _native() -> ModuleType:
    # Only here: Jinja takes a while to be imported, and most components need none.
    from dagster_dlt.components.dlt_load_collection.inline import native  # noqa: PLC0415

    return native
