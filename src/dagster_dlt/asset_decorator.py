"""`@dlt_assets` and `build_dlt_asset_specs`: dlt resources as Dagster assets."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import wraps
from inspect import Parameter, isfunction, signature, unwrap
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dagster, _dlt
from dagster_dlt._binding import (
    binding_metadata,
    declared_windows,
    derived_checks,
    specs_by_resource,
)
from dagster_dlt._contents import code_of
from dagster_dlt._factories import AnyPipeline, AnySource, Factory, config_of, two_configs
from dagster_dlt._nested import nested_specs
from dagster_dlt._origins import Declared, Origin, pipeline_origin, source_origin
from dagster_dlt.constants import (
    DAGSTER_CODE_REFERENCES,
    DAGSTER_TABLE_NAME,
    META_KEY_NESTED_TABLE,
    META_KEY_RESOURCE,
    META_KEY_SOURCE,
    META_KEY_TABLE,
)
from dagster_dlt.errors import (
    AmbiguousResourceError,
    DuplicateAssetKeyError,
    FactoryParameterError,
    GroupNameConflictError,
    InvalidAssetKeyError,
    PartitionWarning,
    UnannotatedParameterError,
    UnknownResourceError,
    listed,
)
from dagster_dlt.loading.partitions import findings
from dagster_dlt.snapshot import DltSourceSnapshot
from dagster_dlt.translator import DagsterDltTranslator

#: Name of a resource, and of a nested table if the asset is one.
_Part = tuple[str, str | None]


def dlt_assets(
    *,
    dlt_source: AnySource,
    dlt_pipeline: AnyPipeline,
    resources: Declared | None = None,
    snapshot: DltSourceSnapshot | str | Path | None = None,
    name: str | None = None,
    group_name: str | None = None,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
    hooks: AbstractSet[dg.HookDefinition] | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    check_specs: Sequence[dg.AssetCheckSpec] | None = None,
    required_resource_keys: AbstractSet[str] | None = None,
    resource_defs: Mapping[str, object] | None = None,
    config_schema: Any = None,  # noqa: ANN401 - Dagster takes a dozen forms and exports no type
    code_version: str | Callable[[DltResource], str | None] | None = None,
    io_manager_key: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Define the resources of a dlt source as assets that one function loads.

    Args:
        dlt_source: The source: each selected resource becomes an asset. Or a function that
            returns it, decorated with `@dlt.source` or not: each run calls it, with what its
            parameters ask for, see `docs/guides/sources.md`. What its source has is then known
            from `resources` or `snapshot`; without either it is called once more, here.
        dlt_pipeline: The pipeline that says where the data goes, or a function that returns it.
            Of `functools.partial(dlt.pipeline, "shop", ...)`, which is not called here, name,
            destination and dataset are known; of other functions nothing is.
        resources: The resources of a source that is built when it runs, by name or with what is
            known of them. Of a source that is given, the ones to take.
        snapshot: File with what a source has that is built when it runs, or its path.
        name: Name of the op, by default the function's.
        group_name: Group of all assets.
        dagster_dlt_translator: Decides how a resource appears as an asset.
        partitions_def: Partitions of all assets. Where they are windows of time, each run loads
            the rows of its window, by the cursors of the resources; a `PartitionWarning` names
            those for which that cannot work.
        backfill_policy: How backfills are cut into runs. For time windows the default is one
            run for the whole range.
        hooks: Hooks of the op.
        op_tags: Tags of the op.
        pool: Concurrency pool of the op. dlt needs none.
        retry_policy: Retry policy of the op.
        check_specs: Asset checks that the function yields results for. Those that the translator's
            settings have derived from the resources are added, and `run` yields their results.
        required_resource_keys: Keys of Dagster resources the function needs.
        resource_defs: Dagster resources of these assets only.
        config_schema: Schema of the op's config, where no `config` argument is annotated.
        code_version: Version of the code behind the assets: one for all, or a function of the
            dlt resource such as `source_code_version`.
        io_manager_key: Key of the `DltIOManager` by which assets downstream read the tables. They
            need not name it then.

    Returns:
        A decorator, as `dagster.multi_asset(can_subset=True, specs=...)` returns it.

    Raises:
        DefinitionError: what was given cannot be right; the subclass says what.

    Example:
        >>> import dagster as dg
        >>> import dlt
        >>> from dagster_dlt import DagsterDltResource, dlt_assets
        >>> @dlt.source
        ... def shop():
        ...     @dlt.resource(primary_key="id", write_disposition="merge")
        ...     def orders():
        ...         yield [{"id": 1, "total": 20}]
        ...
        ...     return orders
        >>> @dlt_assets(
        ...     dlt_source=shop(),
        ...     dlt_pipeline=dlt.pipeline("shop", destination="duckdb", dataset_name="raw"),
        ... )
        ... def shop_assets(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        ...     yield from dlt_resource.run(context=context)
    """
    source = source_origin(dlt_source, resources, snapshot)
    pipeline = pipeline_origin(dlt_pipeline)
    translator = dagster_dlt_translator or DagsterDltTranslator()
    specs = _specs(source, pipeline, translator)
    specs = _readable(specs, io_manager_key)
    keys = {str(spec.metadata[META_KEY_RESOURCE]): spec.key for spec in specs}
    if derived := derived_checks(_known(source), keys, translator):
        check_specs = [*(check_specs or ()), *derived]
    factories = [each.factory for each in (source, pipeline) if each.factory]
    if partitions_def is not None:
        _warn_of_partitions(source, partitions_def, dagster_dlt_translator)
    else:
        _refuse_partition_parameters(factories)
    if group_name:
        grouped = [spec.key.to_user_string() for spec in specs if spec.group_name]
        if grouped:
            raise GroupNameConflictError(source.name, pipeline.name, grouped)
    if code_version is not None:
        specs = _with_code_versions(specs, _known(source), code_version)
    if backfill_policy is None and isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        # A source that is built for one partition cannot be built for a range.
        one_each = any("partition_key" in factory.by_name for factory in factories)
        backfill_policy = None if one_each else dg.BackfillPolicy.single_run()
    if required_resource_keys is not None:
        # Dagster takes resources by keys or by parameters of the function, not by both.
        required_resource_keys = {
            *required_resource_keys,
            *chain(*(factory.dagster_resources for factory in factories)),
        }
    define = dg.multi_asset(
        name=name,
        group_name=group_name,
        can_subset=True,
        specs=specs,
        partitions_def=partitions_def,
        backfill_policy=backfill_policy,
        hooks=hooks,
        op_tags=op_tags,
        pool=pool,
        retry_policy=retry_policy,
        check_specs=check_specs,
        required_resource_keys=required_resource_keys,
        resource_defs=resource_defs,
        config_schema=config_schema,
    )
    by_key = required_resource_keys is not None
    return lambda function: _defined(define, _asking_for(function, factories, by_key=by_key))


def build_dlt_asset_specs(
    dlt_source: AnySource,
    dlt_pipeline: AnyPipeline,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    *,
    resources: Declared | None = None,
    snapshot: DltSourceSnapshot | str | Path | None = None,
    io_manager_key: str | None = None,
) -> Sequence[dg.AssetSpec]:
    """Return one asset spec for each selected resource of a dlt source.

    Args:
        dlt_source: The source, or a function that builds it, as for `@dlt_assets`.
        dlt_pipeline: The pipeline that will load it, or a function that builds it.
        dagster_dlt_translator: Decides how a resource appears as an asset.
        resources: The resources, as for `@dlt_assets`.
        snapshot: File with what the source has, as for `@dlt_assets`.
        io_manager_key: Key of the `DltIOManager`, as for `@dlt_assets`.

    Returns:
        The specs, in the order of the resources. Their metadata hold source, pipeline and
        translator, so that `DagsterDltResource.run` finds them in any multi-asset made of them.

    Raises:
        DefinitionError: what was given cannot be right; the subclass says what.

    Example:
        >>> import dlt
        >>> from dagster_dlt import build_dlt_asset_specs
        >>> @dlt.source
        ... def shop():
        ...     return dlt.resource([{"id": 1}], name="orders")
        >>> pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")
        >>> [spec.key.to_user_string() for spec in build_dlt_asset_specs(shop(), pipeline)]
        ['dlt_shop_orders']
    """
    source = source_origin(dlt_source, resources, snapshot)
    translator = dagster_dlt_translator or DagsterDltTranslator()
    return _readable(_specs(source, pipeline_origin(dlt_pipeline), translator), io_manager_key)


def asset_key_for(
    assets: dg.AssetsDefinition | dg.AssetSpec | Sequence[dg.AssetsDefinition | dg.AssetSpec],
    resource: str,
    *,
    source: str | None = None,
) -> dg.AssetKey:
    """Return the key of the asset that a dlt resource is, for what depends on it.

    Args:
        assets: Assets of `@dlt_assets`, or specs of `build_dlt_asset_specs`.
        resource: Name of the resource.
        source: Name of the source, where several have a resource of that name.

    Raises:
        UnknownResourceError: there is no such resource among the assets.
        AmbiguousResourceError: there are several.

    Example:
        >>> import dlt
        >>> from dagster_dlt import asset_key_for, build_dlt_asset_specs
        >>> @dlt.source
        ... def shop():
        ...     return dlt.resource([{"id": 1}], name="orders")
        >>> pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")
        >>> asset_key_for(build_dlt_asset_specs(shop(), pipeline), "orders").to_user_string()
        'dlt_shop_orders'
    """
    given = [assets] if isinstance(assets, dg.AssetsDefinition | dg.AssetSpec) else assets
    specs = [
        spec
        for each in given
        for spec in ([each] if isinstance(each, dg.AssetSpec) else each.specs)
        if {META_KEY_RESOURCE, META_KEY_SOURCE} <= spec.metadata.keys()
        and META_KEY_NESTED_TABLE not in spec.metadata
        and source in {None, str(spec.metadata[META_KEY_SOURCE])}
    ]
    found = [spec for spec in specs if spec.metadata[META_KEY_RESOURCE] == resource]
    names = sorted({str(spec.metadata[META_KEY_SOURCE]) for spec in found or specs})
    if not found:
        known = [str(spec.metadata[META_KEY_RESOURCE]) for spec in specs]
        name = source or " or ".join(names)
        raise UnknownResourceError(name, resource, known, "asset_key_for()")
    if len(names) > 1:
        raise AmbiguousResourceError(resource, names)
    return found[0].key


def source_code_version(resource: DltResource) -> str | None:
    """Return a version of a resource that changes with the code of its function.

    Args:
        resource: The dlt resource.

    Returns:
        The first twelve digits of a hash of the function's source code, or None for a resource
        that is made of data or whose code is not available.

    Example:
        >>> import dlt
        >>> from dagster_dlt import source_code_version
        >>> source_code_version(dlt.resource([1, 2], name="numbers")) is None
        True
    """
    function = _dlt.function_of(resource)
    return code_of(function) if function else None


def _specs(
    source: Origin[DltSource], pipeline: Origin[Pipeline], translator: DagsterDltTranslator
) -> list[dg.AssetSpec]:
    known = _known(source)
    by_name = _dlt.selected_resources(known)
    for configured in translator.settings.resources:
        if configured not in known.resources:
            raise UnknownResourceError(known.name, configured, list(known.resources))
    specs = specs_by_resource(known, pipeline.known, translator)
    nested = nested_specs(known, pipeline.known, translator, specs)
    # Each with its nested tables, which have no resource of their own.
    each = {
        (name, table): found
        for name, spec in specs.items()
        for table, found in [(None, spec), *nested.get(name, {}).items()]
    }
    _check_keys(each)
    bound = binding_metadata(source, pipeline, translator)
    return [
        spec.merge_attributes(
            metadata={
                **_code_references(by_name[name], spec, source.factory),
                **bound,
                META_KEY_RESOURCE: name,
                **({META_KEY_NESTED_TABLE: table} if table else {}),
            }
        )
        for (name, table), spec in _one_table_name_each(each).items()
    ]


def _readable(specs: list[dg.AssetSpec], io_manager_key: str | None) -> list[dg.AssetSpec]:
    """Return the specs with what reads their tables for assets downstream."""
    return [spec.with_io_manager_key(io_manager_key) for spec in specs] if io_manager_key else specs


def _known(source: Origin[DltSource]) -> DltSource:
    assert source.known is not None, "definitions know the resources of their source"  # noqa: S101
    return source.known


def _refuse_partition_parameters(factories: Sequence[Factory[Any]]) -> None:
    for factory in factories:
        if factory.needs_a_partition:
            names = listed(factory.needs_a_partition)
            problem = f"asks for {names}, and the assets have no partitions"
            remedy = "Give them a partitions_def, or the parameter a default"
            raise FactoryParameterError(factory.name, problem, remedy)


def _asking_for(
    function: Callable[..., Any], factories: Sequence[Factory[Any]], *, by_key: bool
) -> Callable[..., Any]:
    """Return the function with the parameters of factories that Dagster has to know of."""
    own = signature(function)
    wanted: dict[str, Any] = {}
    for factory in factories:
        if not by_key:
            wanted |= factory.dagster_resources
    config = config_of(factories)
    taken = Factory(function, Pipeline).configs.get("config")
    if config and "config" in own.parameters and not (taken and issubclass(taken, config)):
        other = getattr(taken, "__name__", "its argument config")
        raise two_configs(factories[0].name, f"{config.__name__} and {other}")
    if config:
        wanted["config"] = config
    added = {name: each for name, each in wanted.items() if name not in own.parameters}
    if not added:
        return function

    @wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on as it is
        return function(*args, **{name: kwargs[name] for name in kwargs if name not in added})

    asked = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=each) for name, each in added.items()
    ]
    vars(asking)["__signature__"] = own.replace(parameters=[*own.parameters.values(), *asked])
    asking.__annotations__ = {**function.__annotations__, **added}
    return asking


def _defined(
    define: Callable[[Callable[..., Any]], dg.AssetsDefinition], function: Callable[..., Any]
) -> dg.AssetsDefinition:
    try:
        return define(function)
    except dg.DagsterInvalidDefinitionError as error:
        unannotated = [
            name
            for name, parameter in signature(function).parameters.items()
            if parameter.annotation is parameter.empty and name not in {"context", "_context", "_"}
        ]
        if unannotated:
            raise UnannotatedParameterError(function.__name__, unannotated) from error
        raise


def _warn_of_partitions(
    origin: Origin[DltSource],
    partitions_def: dg.PartitionsDefinition[str],
    translator: DagsterDltTranslator | None,
) -> None:
    """Tell what will go wrong with the partitions, while nobody waits for them yet."""
    if not origin.is_complete:
        return  # what is declared does not say which resources have cursors
    source = _known(origin)
    by_time = _dagster.is_by_time(partitions_def)
    declared = declared_windows(source, translator or DagsterDltTranslator())
    found = findings(source, declared, by_time=by_time)
    said = []
    if found.unbounded:
        said.append(
            f"Resources {listed(found.unbounded)} have no cursor, so each partition loads all that "
            "they return. Give them a dlt.sources.incremental with an initial value"
        )
    if found.shared:
        named = listed(f"{name}.{path}" for name, path in found.shared.items())
        why = (
            'do not say how they tell time. Say so with the hint x-dagster: {"window": "seconds"}'
            if by_time
            else "would be shared by all keys. Give each key a pipeline or a dataset of its own"
        )
        said.append(f"Runs will be refused: cursors {named} {why}")
    if found.replacing:
        said.append(
            f"Runs will be refused: {listed(found.replacing)} would replace the rows of all other "
            'partitions. Use the write disposition "merge" or "append"'
        )
    if said:
        text = (
            f"{'. '.join(said)}. Where the resource selects the rows of its partition itself, give "
            f'it the hint x-dagster {{"window": "own"}}. (source {source.name!r})'
        )
        warnings.warn(text, PartitionWarning, stacklevel=3)


def _check_keys(specs: Mapping[_Part, dg.AssetSpec]) -> None:
    resources: dict[str, list[str]] = defaultdict(list)
    keys = {spec.key.to_python_identifier(): spec.key for spec in specs.values()}
    for (resource, table), spec in specs.items():
        name = table or resource
        identifier = spec.key.to_python_identifier()
        if not re.fullmatch(r"[A-Za-z0-9_]+", identifier):
            raise InvalidAssetKeyError(name, spec.key.to_user_string())
        resources[identifier].append(name)
    for identifier, names in resources.items():
        if len(names) > 1:
            raise DuplicateAssetKeyError(keys[identifier].to_user_string(), names)


def _one_table_name_each(specs: Mapping[_Part, dg.AssetSpec]) -> dict[_Part, dg.AssetSpec]:
    """Leave a shared table's name with the first asset: Dagster refuses a location with two."""
    taken: set[object] = set()
    result: dict[_Part, dg.AssetSpec] = {}
    for name, spec in specs.items():
        table = spec.metadata.get(DAGSTER_TABLE_NAME)
        result[name] = spec
        if table is not None and table in taken:
            metadata = {k: v for k, v in spec.metadata.items() if k != DAGSTER_TABLE_NAME}
            result[name] = spec.replace_attributes(metadata={**metadata, META_KEY_TABLE: table})
        taken.add(table)
    return result


def _code_references(
    resource: DltResource, spec: dg.AssetSpec, factory: Factory[DltSource] | None
) -> dict[str, Any]:
    function = _dlt.function_of(resource)
    if function is None and factory:
        inner = unwrap(factory.inner)
        function = inner if isfunction(inner) else None
    if function is None or DAGSTER_CODE_REFERENCES in spec.metadata:
        return {}
    code = function.__code__
    with warnings.catch_warnings():
        # Beta since 1.8; the user did not choose them, so the warning is not his.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(
            file_path=code.co_filename, line_number=code.co_firstlineno, label=resource.name
        )
        references = dg.CodeReferencesMetadataValue(code_references=[reference])
    return {DAGSTER_CODE_REFERENCES: references}


def _with_code_versions(
    specs: Sequence[dg.AssetSpec],
    source: DltSource,
    code_version: str | Callable[[DltResource], str | None],
) -> list[dg.AssetSpec]:
    versions = {
        name: code_version(resource) if callable(code_version) else code_version
        for name, resource in _dlt.selected_resources(source).items()
    }
    return [
        spec
        if spec.code_version
        else spec.replace_attributes(code_version=versions[spec.metadata[META_KEY_RESOURCE]])
        for spec in specs
    ]
