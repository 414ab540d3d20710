"""What the user gave us: sources and pipelines, and what is mistaken for them."""

import inspect
from functools import partial
from typing import Any

from dlt.common.schema import Schema
from dlt.extract import DltSource
from dlt.extract.reference import SourceFactory
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.secrets import remember_secrets
from dagster_dlt._redaction import shielded
from dagster_dlt.errors import NotADltPipelineError, NotADltSourceError, SourceNotCalledError


def as_source(candidate: object) -> DltSource:
    """Return `candidate` as a dlt source, calling a source function that needs no arguments.

    Here every source comes in, soon after it was built: what dlt has resolved for it is remembered
    as secret.

    Raises:
        SourceNotCalledError: it is a source function that needs arguments.
        NotADltSourceError: it is something else.
    """
    if isinstance(candidate, DltSource):
        remember_secrets(candidate)
        return candidate
    if isinstance(candidate, SourceFactory):
        missing = [
            name
            for name, parameter in inspect.signature(candidate).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        ]
        if missing:
            name = candidate.name or getattr(candidate, "__name__", "source")
            raise SourceNotCalledError(name, missing)
        return as_source(shielded(partial(_called, candidate)))
    raise NotADltSourceError(type(candidate).__name__)


def _called(function: SourceFactory[Any, Any]) -> object:
    try:
        return function()
    finally:
        # Now: an error in the function may tell what was resolved for it.
        remember_secrets(function)


def as_pipeline(candidate: object) -> Pipeline:
    """Return `candidate` as a dlt pipeline.

    Raises:
        NotADltPipelineError: it is none.
    """
    if isinstance(candidate, Pipeline):
        return candidate
    raise NotADltPipelineError(type(candidate).__name__)


def no_source() -> DltSource:
    """Return a source without resources, for what is loaded without the one it came from."""
    return DltSource(Schema("nothing"), "nothing", [])
