"""`source:` as a block of YAML: described when definitions are loaded, built when a load runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlt.extract import DltSource
from pydantic import Field, model_validator
from typing_extensions import Self

from dagster_dlt._redaction import redacted, remember, shielded
from dagster_dlt.components.dlt_load_collection.inline.environment import (
    Missing,
    Placeholders,
    Variables,
    filled,
)
from dagster_dlt.components.dlt_load_collection.inline.filesystem import FilesystemForm
from dagster_dlt.components.dlt_load_collection.inline.form import Form, Problem, checked
from dagster_dlt.components.dlt_load_collection.inline.names import named
from dagster_dlt.components.dlt_load_collection.inline.reference import ReferenceForm, ResourceForm
from dagster_dlt.components.dlt_load_collection.inline.rest_api import RestApiForm
from dagster_dlt.components.dlt_load_collection.inline.sql_database import SqlDatabaseForm
from dagster_dlt.errors import InvalidLoadError, VariableNotSetError

#: What assets are named by.
_NAMES = frozenset({"name", "table_name", "type", "tables", "resources"})
_KINDS = ("rest_api", "sql_database", "filesystem", "type")


class InlineSourceForm(Form):
    """A source without Python: exactly one of rest_api, sql_database, filesystem and type."""

    name: str | None = Field(
        None,
        description=(
            "Name of the source, by which dlt keeps its cursors: by default the kind. Two loads "
            "with one pipeline and resources of one name need different ones."
        ),
        examples=["shop_api"],
    )
    rest_api: RestApiForm | None = Field(None, description="Resources of a REST API.")
    sql_database: SqlDatabaseForm | None = Field(None, description="Tables of a database.")
    filesystem: FilesystemForm | None = Field(None, description="Files in a folder or a bucket.")
    type: str | None = Field(
        None,
        description="dlt's reference of another source function: a name, or package.module.name.",
        examples=["my_package.github.github_reactions"],
    )
    arguments: dict[str, Any] | None = Field(
        None, description="With type: arguments of the source function."
    )
    resources: list[ResourceForm] | None = Field(
        None, description="With type: the resources to load, by name or with hints."
    )
    max_table_nesting: int | None = Field(
        None, ge=0, description="How deep nested lists become tables of their own."
    )
    schema_contract: str | dict[str, str] | None = Field(
        None, description="What may change: evolve, freeze, discard_row or discard_value."
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            message = f"takes exactly one of {', '.join(_KINDS)}, and has {found}."
            raise Problem(message)
        if self.type is None and (self.arguments is not None or self.resources is not None):
            message = (
                "has arguments or resources, which belong to type. Indent them below the kind."
            )
            raise Problem(message)
        return self

    @property
    def kind(self) -> str:
        """Which of the four it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    def built(self, *, described: bool) -> DltSource | None:
        """Return the source; to describe it, without asking anybody, if that can be."""
        form = self._form()
        source = form.described(self.name) if described else form.source(self.name)
        if source is not None and self.max_table_nesting is not None:
            source.max_table_nesting = self.max_table_nesting
        if source is not None and self.schema_contract is not None:
            contract: Any = self.schema_contract
            source.schema_contract = contract
        return source

    def _form(self) -> "RestApiForm | SqlDatabaseForm | FilesystemForm | ReferenceForm":
        if self.type is not None:
            arguments = self.arguments or {}
            return ReferenceForm(type=self.type, arguments=arguments, resources=self.resources)
        found: RestApiForm | SqlDatabaseForm | FilesystemForm = getattr(self, self.kind)
        return found


@dataclass(frozen=True, eq=False)
class InlineSource:
    """A source as YAML describes it.

    Called, it is dlt's source, for a run. `described()` is the same without a secret and without a
    connection, for definitions.
    """

    given: Mapping[str, Any]
    #: How errors speak of the load.
    load: str

    @property
    def __name__(self) -> str:
        """What a function would be called in its place: by the name of the source, or its kind."""
        name = self.given.get("name")
        kind = next((kind for kind in _KINDS if kind in self.given), "source")
        return name if isinstance(name, str) else kind

    def __call__(self) -> DltSource:
        """Return the source, with the variables of this process.

        Raises:
            VariableNotSetError: a template asks for one that is not set.
            InvalidLoadError: a variable has a value that cannot be.
        """
        source = shielded(lambda: self._built(in_a_run(self._named(), self.load), described=False))
        if source is None:  # which only a description can be
            raise TypeError
        return source

    def described(self) -> DltSource | None:
        """Return the source with placeholders for variables; None where only it can tell.

        Raises:
            InvalidLoadError: a field is unknown or has a wrong value.
        """
        return self._built(filled(self._named(), Placeholders()), described=True)

    def _named(self) -> Any:  # noqa: ANN401 - YAML
        return named(self.given, _NAMES, self.load)

    def _built(self, given: Mapping[str, Any], *, described: bool) -> DltSource | None:
        form = checked(InlineSourceForm, given, self.load, "source")
        try:
            return form.built(described=described)
        except Exception as error:
            raise refused(self.load, f"source.{form.kind}", error) from error


def refused(load: str, field: str, error: Exception) -> InvalidLoadError:
    """Return the error that says what dlt, or a form of ours, has against a field."""
    said = str(error) if isinstance(error, Problem) else f"is refused by dlt: {redacted(error)}"
    return InvalidLoadError(load, field, said)


def in_a_run(given: object, load: str) -> Any:  # noqa: ANN401 - YAML
    """Return what YAML says, with the variables of this process, which are hidden from now on.

    Raises:
        VariableNotSetError: a template asks for one that is not set.
    """
    variables = Variables()
    try:
        found = filled(given, variables)
    except Missing as missing:
        raise VariableNotSetError(missing.variable, load, missing.field) from None
    remember({"variables": variables.found, "given": found})
    return found
