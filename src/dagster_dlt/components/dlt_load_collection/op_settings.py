"""How the op of a load behaves: when it is tried again, and what a run of it does by default."""

from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field, ValidationError, create_model

from dagster_dlt.components.dlt_load_collection.inline.form import (
    Form,
    Problem,
    checked,
    field_names,
    refusal,
    refuse_unknown,
)
from dagster_dlt.errors import InvalidLoadError
from dagster_dlt.run_config import DltRunConfig

_BACKOFFS = {"linear": dg.Backoff.LINEAR, "exponential": dg.Backoff.EXPONENTIAL}
_JITTERS = {"full": dg.Jitter.FULL, "plus_minus": dg.Jitter.PLUS_MINUS}


def as_text(context: dg.ResolutionContext, value: str | None) -> str | None:
    """Return a text with its templates rendered, which stays one where it looks like a number."""
    if value is None or "{{" not in value:
        return value
    found = context.resolve_value(value)
    return None if found is None else str(found)


class RetryPolicyForm(Form):
    """When a failed op is tried again. A retry loads what failed, not what is in already."""

    max_retries: int = Field(1, ge=0, description="How often.", examples=[3])
    delay: float | None = Field(None, ge=0, description="Seconds to wait before.", examples=[30])
    backoff: Literal["linear", "exponential"] | None = Field(
        None, description="How the delay grows."
    )
    jitter: Literal["full", "plus_minus"] | None = Field(
        None, description="How the delay is varied by chance."
    )

    def policy(self) -> dg.RetryPolicy:
        """Return Dagster's retry policy."""
        return dg.RetryPolicy(
            max_retries=self.max_retries,
            delay=self.delay,
            backoff=_BACKOFFS.get(self.backoff or ""),
            jitter=_JITTERS.get(self.jitter or ""),
        )


def retry_policy_of(given: object, load: str) -> dg.RetryPolicy:
    """Return the retry policy that YAML describes.

    Raises:
        InvalidLoadError: a field is unknown or wrong, or the policy cannot be.
    """
    form = checked(RetryPolicyForm, given, load, "retry_policy")
    try:
        return form.policy()
    except dg.DagsterError as error:
        raise InvalidLoadError(load, "retry_policy", f"cannot be: {error}") from error


def run_config_of(given: object, load: str) -> DltRunConfig:
    """Return the choices that YAML makes for the runs of a load.

    Raises:
        InvalidLoadError: a field is unknown or wrong.
    """
    try:
        if isinstance(given, Mapping):
            refuse_unknown(given, field_names(DltRunConfig))
        return DltRunConfig.model_validate(given)
    except Problem as problem:
        raise InvalidLoadError(load, "run_config", str(problem)) from None
    except ValidationError as error:
        raise refusal(error, given, load, "run_config") from None


def config_type(chosen: DltRunConfig | None) -> type[DltRunConfig]:
    """Return the class of the op's config, with what was chosen as defaults.

    So the launchpad shows them, and what is chosen there wins.
    """
    values = chosen.model_dump(exclude_none=True) if chosen else {}
    fields: dict[str, Any] = {
        name: (
            DltRunConfig.model_fields[name].annotation,
            Field(
                default=value,
                description=DltRunConfig.model_fields[name].description,
                validate_default=True,
            ),
        )
        for name, value in values.items()
    }
    made: type[DltRunConfig] = create_model("DltLoadRunConfig", __base__=DltRunConfig, **fields)
    return made
