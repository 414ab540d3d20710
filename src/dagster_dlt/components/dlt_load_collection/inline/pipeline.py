"""`pipeline:` as a block of YAML: named when definitions are loaded, made when a load runs."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import dlt
from dlt.common.destination import Destination, DestinationCapabilitiesContext
from dlt.pipeline.pipeline import Pipeline
from pydantic import ConfigDict, Field, model_validator

from dagster_dlt import _dlt
from dagster_dlt._redaction import shielded
from dagster_dlt.components.dlt_load_collection.inline.environment import (
    PLACEHOLDER,
    Placeholders,
    filled,
)
from dagster_dlt.components.dlt_load_collection.inline.form import Form, checked, refuse_unknown
from dagster_dlt.components.dlt_load_collection.inline.names import named
from dagster_dlt.components.dlt_load_collection.inline.source import in_a_run, refused

#: Fields of a destination's configuration that the pipeline, or dlt, sets.
_NOT_SETTINGS = frozenset(
    {"self", "destination_type", "destination_name", "dataset_name", "default_schema_name"}
    | {"pipeline_name", "pipeline_working_dir", "staging_config", "local_dir"}
)
#: What assets are named by.
_NAMES = frozenset({"pipeline_name", "name", "dataset_name", "destination", "type"})


class DestinationForm(Form):
    """A destination with settings. Its type may stand for the block."""

    model_config = ConfigDict(extra="allow")
    short_for: ClassVar[str | None] = "type"

    type: str = Field(
        description="dlt's name of the destination, or package.module.name.",
        examples=["duckdb", "postgres", "filesystem"],
    )
    name: str | None = Field(
        None, description="Name of the destination in dlt's configuration, by default the type."
    )
    credentials: Any = Field(
        None,
        description=(
            "Credentials, as a URL or in parts. Without them dlt looks for "
            "DESTINATION__<NAME>__CREDENTIALS when the load runs."
        ),
        examples=["postgresql://loader:{{ env.DB_PASSWORD }}@db.example.com:5432/warehouse"],
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_fields(cls, given: object) -> object:
        return {"type": given} if isinstance(given, str) else given

    def built(self) -> "Destination[Any, Any]":
        """Return dlt's destination, with the settings that it has."""
        settings = {**(self.model_extra or {})}
        if self.credentials is not None:
            settings["credentials"] = self.credentials
        kind = dlt.destination(self.type)
        refuse_unknown(settings, _settings_of(kind))
        if self.name:
            settings["destination_name"] = self.name
        return dlt.destination(self.type, **settings) if settings else kind


class PipelineForm(Form):
    """A pipeline without Python: the arguments of `dlt.pipeline`."""

    pipeline_name: str = Field(
        description="Name of the pipeline, by which dlt keeps its cursors.", examples=["shop"]
    )
    destination: DestinationForm = Field(
        description="Where the data goes: dlt's name, or a mapping with type and settings.",
        examples=["duckdb", {"type": "duckdb", "credentials": "warehouse.duckdb"}],
    )
    staging: DestinationForm | None = Field(
        None,
        description="Bucket through which the data goes.",
        examples=[{"type": "filesystem", "bucket_url": "s3://staging"}],
    )
    dataset_name: str | None = Field(
        None,
        description="Dataset, or schema, of the tables, by default <pipeline_name>_dataset.",
        examples=["raw"],
    )
    pipelines_dir: str | None = Field(None, description="Directory of dlt's working directories.")
    import_schema_path: str | None = Field(None, description="Directory to read schemas from.")
    export_schema_path: str | None = Field(None, description="Directory to write schemas to.")
    dev_mode: bool = Field(
        default=False, description="Whether each load goes to a dataset of its own."
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_called_name(cls, given: object) -> object:
        if isinstance(given, Mapping) and "name" in given and "pipeline_name" not in given:
            return {("pipeline_name" if key == "name" else key): v for key, v in given.items()}
        return given

    def built(self) -> Pipeline:
        """Return dlt's pipeline, without a directory: the load makes its own."""
        own: dict[str, Any] = self.model_dump(
            exclude={"pipeline_name", "destination", "staging"}, exclude_none=True
        )
        if self.staging:
            own["staging"] = self.staging.built()
        return _dlt.stand_in_pipeline(
            partial(dlt.pipeline, self.pipeline_name, destination=self.destination.built(), **own)
        )

    def described(self) -> Pipeline:
        """Return a pipeline of the same names that has no directory and takes part in nothing."""
        staging = self.staging
        if staging and _has_placeholder(staging.model_dump()):
            staging = None
        known = {"destination": _public(self.destination), "staging": staging, "dev_mode": False}
        form = self.model_copy(update=known)
        paths = {"import_schema_path": None, "export_schema_path": None}
        return form.model_copy(update=paths).built()


@dataclass(frozen=True, eq=False)
class InlinePipeline:
    """A pipeline as YAML describes it.

    Called, it is dlt's pipeline, for a run. `described()` has the same names, for definitions.
    """

    given: Mapping[str, Any]
    #: How errors speak of the load.
    load: str

    def __call__(self) -> Pipeline:
        """Return the pipeline, with the variables of this process.

        Raises:
            VariableNotSetError: a template asks for one that is not set.
            InvalidLoadError: a variable has a value that cannot be.
        """
        return shielded(lambda: self._form(in_a_run(self._named(), self.load)).built())

    def described(self) -> Pipeline:
        """Return a pipeline of the same names that leaves no trace.

        Raises:
            InvalidLoadError: a field is unknown or has a wrong value.
        """
        form = self._form(filled(self._named(), Placeholders()))
        try:
            return form.described()
        except Exception as error:
            raise refused(self.load, "pipeline.destination", error) from error

    def _form(self, given: Mapping[str, Any]) -> PipelineForm:
        return checked(PipelineForm, given, self.load, "pipeline")

    def _named(self) -> Any:  # noqa: ANN401 - YAML
        return named(self.given, _NAMES, self.load)


def _public(destination: DestinationForm) -> DestinationForm:
    """Return a destination without the settings that are known only when it runs."""
    known = {k: v for k, v in (destination.model_extra or {}).items() if not _has_placeholder(v)}
    credentials = destination.credentials
    if _has_placeholder(credentials):
        credentials = _without_secrets(credentials)
    return DestinationForm(
        type=destination.type, name=destination.name, credentials=credentials, **known
    )


def _without_secrets(credentials: object) -> object:
    """Return credentials of which only secrets are unknown: they still name the database."""
    if isinstance(credentials, Mapping):
        unknown = {key for key, value in credentials.items() if _has_placeholder(value)}
        return credentials if unknown <= {"password", "username"} else None
    if isinstance(credentials, str) and "@" in credentials:
        return None if PLACEHOLDER in credentials.rpartition("@")[2] else credentials
    return None


def _has_placeholder(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_placeholder, value.values()))
    if isinstance(value, list):
        return any(map(_has_placeholder, value))
    return isinstance(value, str) and PLACEHOLDER in value


def _settings_of(kind: "Destination[Any, Any]") -> list[str]:
    arguments = inspect.signature(type(kind).__init__).parameters
    known = [*arguments, *kind.spec.get_resolvable_fields()]
    capabilities = DestinationCapabilitiesContext.get_resolvable_fields()
    own = {"self", "kwargs", "destination_type", "environment"}
    return sorted(
        {*known, *capabilities, "credentials"} - own
        | ({"kwargs"} & {*kind.spec.get_resolvable_fields()})
    )
