"""Which source, pipeline and translator stand behind an op, and which asset is which resource.

The three objects travel in the metadata of the asset specs, as text that carries them: the UI
shows the text, a run finds the objects, and specs built by hand work like the decorator's.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Generic, TypeVar

import dagster as dg
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dagster, _dlt
from dagster_dlt._factories import RunContext
from dagster_dlt._facts import DeclaredWindow
from dagster_dlt._nested import NestedSpecs
from dagster_dlt._origins import Origin, built_source, pipeline_origin
from dagster_dlt.checks.check import check_specs
from dagster_dlt.checks.settings import DltChecks
from dagster_dlt.constants import (
    META_KEY_NESTED_TABLE,
    META_KEY_PIPELINE,
    META_KEY_RESOURCE,
    META_KEY_SOURCE,
    META_KEY_TRANSLATOR,
)
from dagster_dlt.errors import (
    NotARunContextError,
    ResourceNotInSourceError,
    ResourceNotSelectedError,
    UnboundRunError,
)
from dagster_dlt.translator import DagsterDltTranslator, DltResourceTranslatorData

T = TypeVar("T")


class LiveText(str, Generic[T]):
    """Text that carries the object it describes, within one process.

    Copies keep the object; pickling keeps the text only, since sources and pipelines hold
    generators and open files.
    """

    __slots__ = ("live",)

    live: T

    def __new__(cls, text: str, live: T) -> "LiveText[T]":
        self = super().__new__(cls, text)
        self.live = live
        return self

    def __deepcopy__(self, memo: object) -> "LiveText[T]":
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def binding_metadata(
    source: Origin[DltSource], pipeline: Origin[Pipeline], translator: DagsterDltTranslator
) -> dict[str, str]:
    """Return the metadata by which a run finds what stands behind an asset."""
    return {
        META_KEY_SOURCE: LiveText(source.name, source),
        META_KEY_PIPELINE: LiveText(_route(pipeline), pipeline),
        META_KEY_TRANSLATOR: LiveText(type(translator).__name__, translator),
    }


def _route(origin: Origin[Pipeline]) -> str:
    pipeline = origin.known
    if pipeline is None:
        return f"{origin.name}()"
    target = "/".join(filter(None, [_dlt.destination_name(pipeline), pipeline.dataset_name]))
    return f"{pipeline.pipeline_name} → {target}" if target else pipeline.pipeline_name


@dataclass(frozen=True, eq=False)
class Binding:
    """What one call of `run` loads, and the assets it reports to."""

    source: DltSource
    pipeline: Pipeline
    translator: DagsterDltTranslator
    #: Specs of the assets to load, by the name of the dlt resource. An asset that stands for a
    #: whole source is the one of each of its resources.
    specs: Mapping[str, dg.AssetSpec]
    #: Specs of nested tables that are assets of their own.
    nested: NestedSpecs = field(default_factory=dict)
    #: There are no assets to report to: the op is one of a job, or in the midst of a graph asset.
    in_op: bool = False
    #: All specs that the definition has of the source, selected or not.
    known: Mapping[str, dg.AssetSpec] = field(default_factory=dict)

    @cached_property
    def resources(self) -> Mapping[dg.AssetKey, AbstractSet[str]]:
        """Names of the resources that each asset stands for."""
        found: dict[dg.AssetKey, set[str]] = defaultdict(set)
        for name, spec in self.specs.items():
            found[spec.key].add(name)
        return dict(found)

    @cached_property
    def keys(self) -> AbstractSet[dg.AssetKey]:
        """Keys of all assets, nested tables included."""
        return {*self.resources, *chain(*map(self.keys_of, self.specs))}

    def keys_of(self, resource: str) -> list[dg.AssetKey]:
        """Return the keys of the assets that a resource is loaded for."""
        nested = self.nested.get(resource, {}).values()
        return [self.specs[resource].key, *(spec.key for spec in nested)]

    @cached_property
    def declared(self) -> Mapping[str, DeclaredWindow]:
        """What users say of the cursors, by resource."""
        return declared_windows(self.source, self.translator)

    @classmethod
    def of(
        cls,
        context: RunContext,
        source: object = None,
        pipeline: object = None,
        translator: DagsterDltTranslator | None = None,
    ) -> "Binding":
        """Find what stands behind the op of `context`, and build it; what is given here wins.

        Raises:
            UnboundRunError: there is no source and pipeline, or no asset to report to.
            ResourceNotInSourceError: the source lacks a resource whose asset is selected.
        """
        given_source = None if source is None else built_source(source)
        given_pipeline = None if pipeline is None else pipeline_origin(pipeline)
        own = _own_specs(_dagster.op_context(context))
        if not own:
            return _of_op(context, given_source, given_pipeline, translator)
        name = context.op_def.name
        new_source = given_source.built(context) if given_source else None
        bound = _of_source(_bound(own), new_source, name)
        of_source = given_source or _carried_origin(bound, META_KEY_SOURCE)
        of_pipeline = given_pipeline or _carried_origin(bound, META_KEY_PIPELINE)
        translator = (
            translator or _carried(bound, META_KEY_TRANSLATOR, DagsterDltTranslator)
        ) or DagsterDltTranslator()
        if of_source is None or of_pipeline is None:
            raise UnboundRunError(
                name,
                "has no dlt source and pipeline",
                "Define the assets with @dlt_assets, or pass dlt_source= and dlt_pipeline=",
            )
        loaded = of_pipeline.built(context)
        selected = _dagster.op_context(context).selected_asset_keys
        known = {str(spec.metadata[META_KEY_RESOURCE]): spec for spec in bound}
        if bound and of_source.known and not any(spec.key in selected for spec in own):
            # Only asset checks are selected: nothing is loaded, and so nothing is built.
            return cls(of_source.known, loaded, translator, {}, known=known)
        from_ = new_source or of_source.built(context)
        specs = known or _matching(own, from_, loaded, translator, name)
        _tell_of_unknown(context, of_source, from_, specs)
        nested = _nested(own, from_)
        wanted = {
            resource: [spec.key, *(each.key for each in nested.get(resource, {}).values())]
            for resource, spec in specs.items()
        }
        # A nested table is loaded with its resource, whichever of them is selected.
        specs = {name: spec for name, spec in specs.items() if selected & set(wanted[name])}
        missing = sorted(specs.keys() - from_.resources.keys())
        if missing:
            there = list(from_.resources)
            raise ResourceNotInSourceError(from_.name, missing, there, of_source.remedy)
        return cls(from_, loaded, translator, specs, nested, known=known)

    def narrowed(self, resources: Sequence[str]) -> "Binding":
        """Return what is left when only some of the resources are loaded.

        Raises:
            ResourceNotSelectedError: one of them is not among those that are.
        """
        for name in resources:
            if name not in self.specs:
                raise ResourceNotSelectedError(self.source.name, name, list(self.specs))
        specs = {name: spec for name, spec in self.specs.items() if name in resources}
        return replace(self, specs=specs)


@dataclass(frozen=True, eq=False)
class Behind:
    """What stands behind one asset, as far as its definition tells."""

    resource: str
    source: Origin[DltSource]
    pipeline: Origin[Pipeline]
    translator: DagsterDltTranslator

    @classmethod
    def of(cls, spec_metadata: Mapping[str, object]) -> "Behind | None":
        """Return what the metadata of an asset's spec carry; None where it is not one of dlt's."""
        source, pipeline, translator = (
            text.live if isinstance(text := spec_metadata.get(key), LiveText) else None
            for key in (META_KEY_SOURCE, META_KEY_PIPELINE, META_KEY_TRANSLATOR)
        )
        resource = spec_metadata.get(META_KEY_RESOURCE)
        if not (isinstance(source, Origin) and isinstance(pipeline, Origin) and resource):
            return None
        return cls(str(resource), source, pipeline, translator or DagsterDltTranslator())


def check_context(context: object) -> None:
    """Refuse what has no step to load in, such as the context of an asset check or a sensor.

    Raises:
        NotARunContextError: it is not the context of an asset or an op.
    """
    if not isinstance(context, dg.AssetExecutionContext | dg.OpExecutionContext):
        raise NotARunContextError(type(context).__name__)


def _own_specs(op: dg.OpExecutionContext) -> list[dg.AssetSpec]:
    """Return the specs of the assets that the op itself makes, selected or not.

    Of the ops inside a graph asset only the last one makes it. The others are like any op.
    """
    if not op.has_assets_def:
        return []
    specs = op.assets_def.specs
    if not _dagster.is_in_graph_asset(op):
        return list(specs)
    outputs = _dagster.asset_outputs(op)
    return [spec for spec in specs if spec.key in outputs]


def _tell_of_unknown(
    context: RunContext,
    origin: Origin[DltSource],
    source: DltSource,
    specs: Mapping[str, dg.AssetSpec],
) -> None:
    """Tell of resources that a source has by now, and that the definitions know nothing of."""
    new = [name for name in _dlt.selected_resources(source) if name not in specs]
    if origin.remedy and new:
        context.log.warning(
            "Source %r has resources that are no assets, and are not loaded: %s. %s.",
            source.name,
            ", ".join(new),
            origin.remedy,
        )


def _of_op(
    context: RunContext,
    source_origin: Origin[DltSource] | None,
    pipeline_origin: Origin[Pipeline] | None,
    translator: DagsterDltTranslator | None,
) -> Binding:
    if source_origin is None or pipeline_origin is None:
        raise UnboundRunError(
            context.op_def.name,
            "is called in an op, which has no dlt source and pipeline of its own",
            "Pass dlt_source= and dlt_pipeline=",
        )
    translator = translator or DagsterDltTranslator()
    source, pipeline = source_origin.built(context), pipeline_origin.built(context)
    specs = specs_by_resource(source, pipeline, translator)
    return Binding(source, pipeline, translator, specs, in_op=True)


def _bound(specs: Iterable[dg.AssetSpec]) -> list[dg.AssetSpec]:
    return [
        spec
        for spec in specs
        if {META_KEY_RESOURCE, META_KEY_SOURCE} <= spec.metadata.keys()
        and META_KEY_NESTED_TABLE not in spec.metadata
    ]


def _nested(specs: Iterable[dg.AssetSpec], source: DltSource) -> NestedSpecs:
    found: dict[str, dict[str, dg.AssetSpec]] = defaultdict(dict)
    for spec in specs:
        table = spec.metadata.get(META_KEY_NESTED_TABLE)
        if table and str(spec.metadata.get(META_KEY_SOURCE)) == source.name:
            found[str(spec.metadata[META_KEY_RESOURCE])][str(table)] = spec
    return dict(found)


def _of_source(
    specs: list[dg.AssetSpec], source: DltSource | None, op_name: str
) -> list[dg.AssetSpec]:
    """Keep the specs of one source, where a definition holds assets of several."""
    names = {str(spec.metadata[META_KEY_SOURCE]) for spec in specs}
    if len(names) < 2:  # noqa: PLR2004 - "several"
        return specs
    if source is None:
        raise UnboundRunError(
            op_name,
            f"loads assets of several dlt sources: {', '.join(sorted(names))}",
            "Call run() once for each, with dlt_source= and dlt_pipeline=",
        )
    return [spec for spec in specs if str(spec.metadata[META_KEY_SOURCE]) == source.name]


def _carried(specs: Iterable[dg.AssetSpec], key: str, kind: type[T]) -> T | None:
    for spec in specs:
        text: Any = spec.metadata.get(key)
        if isinstance(text, LiveText) and isinstance(text.live, kind):
            return text.live
    return None


def _carried_origin(specs: Iterable[dg.AssetSpec], key: str) -> Origin[Any] | None:
    return _carried(specs, key, Origin)


def _matching(
    own: list[dg.AssetSpec],
    source: DltSource,
    pipeline: Pipeline,
    translator: DagsterDltTranslator,
    op_name: str,
) -> dict[str, dg.AssetSpec]:
    """Match specs written by hand, which name no resource, by the translator's keys.

    A single asset whose key is not a resource's stands for the whole source.
    """
    by_resource = specs_by_resource(source, pipeline, translator)
    if not by_resource:
        raise UnboundRunError(
            op_name,
            f"has nothing to load: no resource of source {source.name!r} is selected",
            "Select some, or pass another source",
        )
    by_key = {spec.key: name for name, spec in by_resource.items()}
    specs = {by_key[spec.key]: spec for spec in own if spec.key in by_key}
    if not specs and len(own) == 1:
        key = own[0].key
        return {name: spec.replace_attributes(key=key) for name, spec in by_resource.items()}
    if not specs:
        raise UnboundRunError(
            op_name,
            f"cannot tell which of its assets the resources of source {source.name!r} are",
            "Build the specs with build_dlt_asset_specs(), or pass the translator that gives "
            "the resources these assets' keys",
        )
    return specs


def specs_by_resource(
    source: DltSource, pipeline: Pipeline | None, translator: DagsterDltTranslator
) -> dict[str, dg.AssetSpec]:
    """Ask the translator for the spec of each selected resource, in their order."""
    # Asked once: it takes milliseconds, which add up over a thousand resources.
    location = _dlt.location_of(pipeline, _dlt.schema_for(pipeline, source)) if pipeline else None
    return {
        name: translator.get_asset_spec(
            DltResourceTranslatorData(resource, pipeline, source=source, location=location)
        )
        for name, resource in _dlt.selected_resources(source).items()
    }


def derived_checks(
    source: DltSource,
    keys: Mapping[str, dg.AssetKey],
    translator: DagsterDltTranslator,
    default: DltChecks | None = None,
) -> list[dg.AssetCheckSpec]:
    """Return the specs of the asset checks that the translator wants of resources.

    Args:
        source: The source, as far as it is known.
        keys: Keys of the assets by the names of their resources.
        translator: The translator.
        default: What is wanted of resources of which it says nothing.

    Raises:
        InvalidChecksError: a resource cannot have what is asked of it.
    """
    resources = _dlt.selected_resources(source)
    found = {name: translator.declared_checks(each) or default for name, each in resources.items()}
    asked = {name: checks for name, checks in found.items() if checks is not None}
    if not asked:
        return []
    return check_specs(source, keys, asked, declared_windows(source, translator))


def declared_windows(
    source: DltSource, translator: DagsterDltTranslator
) -> dict[str, DeclaredWindow]:
    """Ask the translator what users say of the cursors, also of resources that feed others."""
    found = {each.name: translator.declared_window(each) for each in source.resources.extracted}
    return {name: window for name, window in found.items() if window is not None}
