"""What fields of a load in YAML become: objects by their paths, blocks, templates."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslatorResolvingInfo
from pydantic import BaseModel

from dagster_dlt.components.dlt_load_collection.inline.environment import settled
from dagster_dlt.components.dlt_load_collection.inline.form import DescribedBy
from dagster_dlt.components.dlt_load_collection.inline.pipeline import InlinePipeline
from dagster_dlt.components.dlt_load_collection.inline.source import InlineSource
from dagster_dlt.components.dlt_load_collection.python_path import object_at
from dagster_dlt.translator import (
    DltResourceTranslatorData,
)

T = TypeVar("T")


def resolve_source(context: dg.ResolutionContext, model: BaseModel) -> Any:  # noqa: ANN401 - a template may be of any type
    """Return the source that a load names, or describes in its place."""
    given, inside = model.source, context.at_path("source")  # type: ignore[attr-defined] # made by Dagster
    if not isinstance(given, str):
        return InlineSource(settled(inside, given, "source"), _spoken_of(context, model))
    path = inside.resolve_value(given)
    return object_at(inside, "source", path) if isinstance(path, str) else path


def resolve_pipeline(context: dg.ResolutionContext, model: BaseModel) -> Any:  # noqa: ANN401 - as above
    """Return the pipeline that a load names, or describes in its place."""
    given, inside = model.pipeline, context.at_path("pipeline")  # type: ignore[attr-defined] # as above
    if not isinstance(given, str):
        return InlinePipeline(settled(inside, given, "pipeline"), _spoken_of(context, model))
    path = inside.resolve_value(given)
    return object_at(inside, "pipeline", path) if isinstance(path, str) else path


def resolver_of(
    field: str,
    check: Callable[[object, str], T],
    form: type[BaseModel],
    description: str,
    examples: list[Any],
) -> Any:  # noqa: ANN401 - a `Resolver`, which has no types itself
    """Return a resolver of a block that has a form of ours."""

    def resolve(context: dg.ResolutionContext, model: BaseModel) -> T | None:
        given = context.at_path(field).resolve_value(getattr(model, field))
        return None if given is None else check(given, _spoken_of(context, model))

    block = str | Annotated[dict[str, Any], DescribedBy(form)] | None
    return dg.Resolver.from_model(
        resolve, model_field_type=block, description=description, examples=examples
    )


def _spoken_of(context: dg.ResolutionContext, model: BaseModel) -> str:
    """Return how errors speak of a load: by its place in the list, and its name."""
    place = next((step + 1 for step in reversed(context.path) if isinstance(step, int)), None)
    name = getattr(model, "name", None)
    load = f"load {place}" if place else "the load"
    return f"{load} ({name!r})" if name else load


def resolve_translation(
    context: dg.ResolutionContext, attributes: str | BaseModel
) -> TranslationFn[DltResourceTranslatorData]:
    """Return what evaluates a translation for each resource."""
    info = TranslatorResolvingInfo(attributes, context, model_key="translation")

    def translate(spec: dg.AssetSpec, data: DltResourceTranslatorData) -> dg.AssetSpec:
        scope = {"resource": data.resource, "pipeline": data.pipeline, "spec": spec}
        return info.get_asset_spec(spec, scope)

    return translate
