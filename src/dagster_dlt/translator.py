"""How a dlt resource appears as a Dagster asset: one method to override, and settings."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, TypedDict, get_args
from urllib.parse import urlsplit

import dagster as dg
from dlt.common.destination import Destination
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dagster, _dlt
from dagster_dlt._facts import CursorKind, DeclaredWindow, Letters, Location
from dagster_dlt._legacy import SupersededGetters, apply_overridden
from dagster_dlt._redaction import redacted
from dagster_dlt.checks.settings import DltChecks
from dagster_dlt.errors import (
    InvalidKeyPatternError,
    InvalidResourceAttributeError,
    InvalidSettingError,
    PipelineRequiredError,
    UnknownResourceError,
    listed,
    nearest,
)
from dagster_dlt.metadata import definition_metadata

#: Hint of a dlt resource that carries its Dagster attributes:
#: `resource.apply_hints(additional_table_hints={"x-dagster": {"owners": [...]}})`.
DAGSTER_HINT: Final = "x-dagster"

Upstream = Literal["resource", "location", "none"]
NestedTables = Literal["metadata", "assets"]

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream": get_args(Upstream),
    "table_names": get_args(Letters),
    "nested_tables": get_args(NestedTables),
}

_WINDOWS: Final[tuple[str, ...]] = (*get_args(CursorKind), "own")

#: Attributes that say something about a resource, and are none of its asset's spec.
_NOT_OF_SPECS: Final = frozenset({"checks", "nested_tables", "window"})

_PLACEHOLDERS: Final = ("dataset", "destination", "pipeline", "resource", "source", "table")


class ResourceAttributes(TypedDict, total=False):
    """Dagster attributes of one resource's asset, for settings and for the `x-dagster` hint."""

    #: Replaces the docstring of the resource function.
    description: str
    group_name: str
    #: Added to those that are there, like tags, kinds and metadata.
    owners: Sequence[str]
    tags: Mapping[str, str]
    kinds: set[str] | Sequence[str]
    metadata: Mapping[str, Any]
    code_version: str
    #: How the resource's cursor tells time, where its code does not say so; or "own", if the
    #: resource selects the rows of its partition itself. `docs/guides/partitions.md` has more.
    window: DeclaredWindow
    #: Names of tables nested in the resource's, where they are to be assets and neither hints nor
    #: a schema tell of them.
    nested_tables: Sequence[str]
    #: A condition, or in words: "eager", "on_missing", or a cron schedule.
    automation_condition: dg.AutomationCondition[Any] | str
    #: A policy, or in words: {"fail_hours": 26, "warn_hours": 25}.
    freshness_policy: dg.FreshnessPolicy | Mapping[str, float]
    #: Asset checks that are derived: True, False, a `DltChecks`, or a mapping of those of its
    #: fields that are different from the settings'. `docs/guides/checks.md` has more.
    checks: DltChecks | bool | Mapping[str, Any]


@dataclass(frozen=True)
class DagsterDltTranslatorSettings:
    """What most translators are written for, without writing one.

    Attributes:
        key: Pattern of the asset key, one string per part, with the placeholders `{dataset}`,
            `{destination}`, `{pipeline}`, `{resource}`, `{source}` and `{table}`. The default
            is the documented key `dlt_<source>_<resource>`.
        upstream: What an asset depends on. `"resource"`, the documented default: an asset named
            after the source and the resource, `<source>_<resource>`. `"location"`: an external
            asset for each place that dlt knows the resource to read, such as a database table,
            an API endpoint or a bucket. `"none"`: nothing. With the last two, a transformer
            depends on its parent where that is an asset of the same source.
        table_names: Letters of `dagster/table_name`, by which dbt's sources find the asset. The
            default, `"as they are"`, is those that the destination itself uses, such as upper case
            in Snowflake. `"lower"` or `"upper"` where a dbt project spells the names otherwise.
        nested_tables: What becomes of the tables nested in a resource's. `"metadata"`: they are
            listed with the resource's asset. `"assets"`: each that is known when the definitions
            load is an asset of its own, which depends on the one that it is nested in.
        resources: Dagster attributes by resource name.
        checks: Asset checks that are derived from each resource: `True`, `False`, a `DltChecks`,
            or a mapping of its fields. None by default.

    Raises:
        InvalidChecksError: `checks` cannot be used.
        InvalidKeyPatternError: the pattern has an unknown placeholder or an empty part.
        InvalidSettingError: another one has a value that it cannot have.
        InvalidResourceAttributeError: an attribute is unknown or has a wrong value.

    Example:
        >>> from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings
        >>> translator = DagsterDltTranslator(
        ...     DagsterDltTranslatorSettings(
        ...         key=["{dataset}", "{table}"],
        ...         upstream="none",
        ...         resources={"orders": {"owners": ["team:sales"], "group_name": "sales"}},
        ...     )
        ... )
    """

    key: Sequence[str] | None = None
    upstream: Upstream = "resource"
    table_names: Letters = "as they are"
    nested_tables: NestedTables = "metadata"
    resources: Mapping[str, ResourceAttributes] = field(default_factory=dict)
    checks: DltChecks | bool | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        DltChecks.of(self.checks)
        if self.key is not None:
            _check_pattern(self.key)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidSettingError(name, getattr(self, name), choices)
        for resource, attributes in self.resources.items():
            _check_attributes(resource, attributes)


class DltResourceTranslatorData:
    """What a translator is asked about.

    Attributes:
        resource: The dlt resource.
        pipeline: The pipeline that will load it, if it is known.
        source: The source that the resource is part of, if it is known.
    """

    def __init__(
        self,
        resource: DltResource,
        pipeline: Pipeline | None = None,
        *,
        destination: Destination[Any, Any] | None = None,
        source: DltSource | None = None,
        location: Location | None = None,
    ) -> None:
        """Describe a resource.

        Args:
            resource: The dlt resource.
            pipeline: The pipeline that will load it.
            destination: The destination, in the older form that has no pipeline.
            source: The source that the resource is part of.
            location: Where the pipeline writes, if the caller has asked dlt already: it takes
                milliseconds, which add up over a thousand resources.
        """
        self.resource = resource
        self.pipeline = pipeline
        self.source = source
        self._destination = destination
        self._location = location

    @property
    def destination(self) -> Destination[Any, Any] | None:
        """The destination that the resource is loaded into, if it is known."""
        return self.pipeline.destination if self.pipeline else self._destination

    @property
    def location(self) -> Location:
        """Database and dataset of the resource's table, as far as they are known."""
        if self._location is not None:
            return self._location
        if self.pipeline is None:
            return Location()
        schema = _dlt.schema_for(self.pipeline, self.source) if self.source else None
        return _dlt.location_of(self.pipeline, schema)

    @property
    def table(self) -> str | None:
        """Name of the resource's table at the destination; None if rows decide."""
        name = _dlt.table_name(self.resource)
        if name is None:
            return None
        if self.source is not None:
            return _dlt.normalized_table_name(self.source.schema, name)
        if self.pipeline is not None:
            return _dlt.normalized_table_name(_dlt.any_schema(self.pipeline), name)
        return name


class DagsterDltTranslator(SupersededGetters):
    """Decides how a dlt resource appears as a Dagster asset.

    For keys, dependencies and attributes by resource, settings are enough. For anything else
    override `get_asset_spec`, call `super()`, and change the result.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DagsterDltTranslator, DltResourceTranslatorData
        >>> class RawTranslator(DagsterDltTranslator):
        ...     def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        ...         spec = super().get_asset_spec(data)
        ...         return spec.replace_attributes(key=dg.AssetKey(["raw", data.resource.name]))
    """

    _settings: DagsterDltTranslatorSettings | None = None

    def __init__(self, settings: DagsterDltTranslatorSettings | None = None) -> None:
        self._settings = settings

    @property
    def settings(self) -> DagsterDltTranslatorSettings:
        """The settings, which a subclass without a call of `super().__init__()` has too."""
        return self._settings or DagsterDltTranslatorSettings()

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """Return the asset spec of one dlt resource.

        Args:
            data: The resource, and what is known of its pipeline and source.

        Returns:
            By default: key `dlt_<source>_<resource>`, in which what Dagster does not allow is
            replaced by `_`; a dependency on `<source>_<resource>`, for a transformer on the
            head of its chain; the docstring of the resource function as description; kinds
            `dlt` and the destination's name; and as metadata the table's full name and the
            storage kind. Settings and the `x-dagster` hint change it.
        """
        spec = self._documented_spec(data)
        for attributes in self._attributes(data.resource):
            spec = _with_attributes(spec, data.resource.name, attributes)
        return apply_overridden(self, data.resource, data.destination, spec)

    def asset_key_for(
        self, source: DltSource, resource: str, pipeline: Pipeline | None = None
    ) -> dg.AssetKey:
        """Return the key of the asset that a resource becomes, for what depends on it.

        Args:
            source: The source.
            resource: Name of the resource.
            pipeline: The pipeline that loads it, where keys depend on that.

        Raises:
            UnknownResourceError: the source has no such resource.
            PipelineRequiredError: the key depends on the pipeline.

        Example:
            >>> import dlt
            >>> from dagster_dlt import DagsterDltTranslator
            >>> @dlt.source
            ... def shop():
            ...     return dlt.resource([{"id": 1}], name="orders")
            >>> DagsterDltTranslator().asset_key_for(shop(), "orders").to_user_string()
            'dlt_shop_orders'
        """
        if resource not in source.resources:
            raise UnknownResourceError(
                source.name, resource, list(source.resources), "asset_key_for()"
            )
        pattern = self.settings.key or ()
        named = {name for part in pattern for name in _fields(part)}
        if pipeline is None and named & {"dataset", "destination", "pipeline"}:
            raise PipelineRequiredError(resource, pattern)
        data = DltResourceTranslatorData(source.resources[resource], pipeline, source=source)
        return self.get_asset_spec(data).key

    def declared_window(self, resource: DltResource) -> DeclaredWindow | None:
        """Return what settings or the `x-dagster` hint say of the resource's cursor.

        Args:
            resource: The dlt resource.

        Returns:
            One of the words that `window` of `ResourceAttributes` takes, or None.

        Raises:
            InvalidResourceAttributeError: the hint has an attribute that cannot be used.

        Example:
            >>> import dlt
            >>> from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings
            >>> settings = DagsterDltTranslatorSettings(resources={"clicks": {"window": "seconds"}})
            >>> DagsterDltTranslator(settings).declared_window(dlt.resource([], name="clicks"))
            'seconds'
        """
        found = [each["window"] for each in self._attributes(resource) if "window" in each]
        return found[-1] if found else None

    def declared_nested_tables(self, resource: DltResource) -> Sequence[str]:
        """Return what settings or the `x-dagster` hint say of tables nested in the resource's.

        Args:
            resource: The dlt resource.

        Returns:
            Names of tables.

        Raises:
            InvalidResourceAttributeError: the hint has an attribute that cannot be used.

        Example:
            >>> import dlt
            >>> from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings
            >>> settings = DagsterDltTranslatorSettings(
            ...     nested_tables="assets",
            ...     resources={"orders": {"nested_tables": ["orders__items"]}},
            ... )
            >>> orders = dlt.resource([], name="orders")
            >>> DagsterDltTranslator(settings).declared_nested_tables(orders)
            ['orders__items']
        """
        return [
            name for each in self._attributes(resource) for name in each.get("nested_tables", ())
        ]

    def get_nested_asset_spec(
        self, data: DltResourceTranslatorData, table: str, spec: dg.AssetSpec, parent: dg.AssetKey
    ) -> dg.AssetSpec:
        """Return the asset spec of a table nested in a resource's.

        It is asked where the settings have `nested_tables="assets"`.

        Args:
            data: The resource, and what is known of its pipeline and source.
            table: Name of the nested table at the destination, such as `orders__items`.
            spec: The spec of the resource.
            parent: Key of the asset that the table is nested in: that of the resource, or of
                another nested table.

        Returns:
            By default: the spec of the resource with what the table's name adds to that of the
            resource's table at the end of the key, a dependency on `parent`, and the table's own
            name as metadata.

        Example:
            >>> import dagster as dg
            >>> from dagster_dlt import DagsterDltTranslator
            >>> class ShortNames(DagsterDltTranslator):
            ...     def get_nested_asset_spec(self, data, table, spec, parent):
            ...         nested = super().get_nested_asset_spec(data, table, spec, parent)
            ...         return nested.replace_attributes(key=dg.AssetKey(["raw", table]))
        """
        root = data.table or data.resource.name
        *head, last = spec.key.path
        end = table.removeprefix(root) if table.startswith(root) else f"__{table}"
        name = data.destination.destination_name if data.destination else None
        location = data.location.spelled(self.settings.table_names)
        return spec.replace_attributes(
            key=_key([*head, f"{last}{end}"]),
            deps=[parent],
            description=f"Rows nested in those of {parent.to_user_string()}.",
            metadata=definition_metadata(location, table, name),
        )

    def declared_checks(self, resource: DltResource) -> DltChecks | None:
        """Return which asset checks are wanted of a resource, by settings or the `x-dagster` hint.

        Args:
            resource: The dlt resource.

        Returns:
            What is wanted, or None where nothing is. A mapping for the resource changes some fields
            of what is set for all; anything else takes its place.

        Raises:
            InvalidChecksError: the hint cannot be used.
            InvalidResourceAttributeError: the hint has an attribute that cannot be used.

        Example:
            >>> import dlt
            >>> from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings
            >>> settings = DagsterDltTranslatorSettings(checks=True)
            >>> translator = DagsterDltTranslator(settings)
            >>> translator.declared_checks(dlt.resource([], name="clicks")).unique
            True
        """
        found = DltChecks.of(self.settings.checks)
        for attributes in self._attributes(resource):
            if "checks" in attributes:
                found = DltChecks.of(attributes["checks"], found, resource.name)
        return found

    def _default_spec(self, resource: DltResource) -> dg.AssetSpec:
        return self._documented_spec(DltResourceTranslatorData(resource=resource))

    def _documented_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        name = data.destination.destination_name if data.destination else None
        return dg.AssetSpec(
            key=self._key(data),
            deps=self._deps(data),
            description=_dlt.docstring(data.resource),
            kinds={"dlt", name} if name else {"dlt"},
            metadata=definition_metadata(
                data.location.spelled(self.settings.table_names), data.table, name
            ),
        )

    def _key(self, data: DltResourceTranslatorData) -> dg.AssetKey:
        if self.settings.key is None:
            return _key([f"dlt_{data.resource.source_name}_{data.resource.name}"])
        values = {
            "dataset": data.pipeline.dataset_name if data.pipeline else None,
            "destination": data.destination.destination_name if data.destination else None,
            "pipeline": data.pipeline.pipeline_name if data.pipeline else None,
            "resource": data.resource.name,
            "source": data.resource.source_name,
            "table": _dlt.table_name(data.resource) or data.resource.name,
        }
        # What is not known (a dataset without a pipeline) leaves its part out.
        parts = [part.format(**values) for part in self.settings.key if _filled(part, values)]
        return _key(parts or [data.resource.name])

    def _deps(self, data: DltResourceTranslatorData) -> list[dg.AssetKey]:
        if self.settings.upstream == "resource":
            root = _dlt.root_resource_name(data.resource)
            return [_key([f"{data.resource.source_name}_{root}"])]
        parent = _dlt.parent_resource_name(data.resource)
        if parent and data.source and parent in data.source.selected_resources:
            above = DltResourceTranslatorData(
                data.source.resources[parent],
                data.pipeline,
                source=data.source,
                location=data.location,
            )
            return [self.get_asset_spec(above).key]
        return _locations(data.resource) if self.settings.upstream == "location" else []

    def _attributes(self, resource: DltResource) -> list[ResourceAttributes]:
        hint: Any = _dlt.table_hint(resource, DAGSTER_HINT)
        if hint is not None:
            _check_attributes(resource.name, hint)
        found = [hint, self.settings.resources.get(resource.name)]
        return [attributes for attributes in found if attributes]


# --- keys --------------------------------------------------------------------------------------


def _key(parts: Sequence[str]) -> dg.AssetKey:
    """Return the parts as a key, with `_` for what Dagster does not allow in one."""
    return dg.AssetKey([re.sub(_dagster.NOT_IN_KEYS, "_", part) for part in parts])


def _fields(part: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(part) if name is not None]


def _filled(part: str, values: Mapping[str, str | None]) -> bool:
    return all(values[name] for name in _fields(part))


def _check_pattern(pattern: Sequence[str]) -> None:
    if isinstance(pattern, str) or not pattern:
        shown = [pattern] if isinstance(pattern, str) else []
        raise InvalidKeyPatternError(shown, "is not a list of key parts", _PLACEHOLDERS)
    for part in pattern:
        try:
            names = _fields(part)
        except ValueError as error:
            problem = f"is malformed ({error})"
            raise InvalidKeyPatternError(pattern, problem, _PLACEHOLDERS) from None
        for name in names:
            if name not in _PLACEHOLDERS:
                problem = f"has the unknown placeholder {name!r}"
                raise InvalidKeyPatternError(pattern, problem, _PLACEHOLDERS)
        if not part:
            raise InvalidKeyPatternError(pattern, "has an empty part", _PLACEHOLDERS)


def _locations(resource: DltResource) -> list[dg.AssetKey]:
    """Return one key for each place that dlt knows `resource` to read.

    dlt notes them at definition time for `sql_database` and `rest_api`, without credentials in the
    host; what is in paths is not its concern.
    """
    keys: dict[dg.AssetKey, None] = {}
    for entry in resource.inputs:
        place: Mapping[str, Any] = {**entry}  # the keys depend on its kind
        address = urlsplit(redacted(place.get("location") or place["kind"]))
        path = [part for part in address.path.split("/") if part]
        head = [address.scheme.partition("+")[0], address.hostname or "", *path]
        inside = [str(place[key]) for key in ("database", "db_schema") if place.get(key)]
        things = place.get("tables") or place.get("endpoints") or [None]
        for thing in things:
            parts = [*head, *inside, *(redacted(thing).split("/") if thing else [])]
            keys[_key([part for part in parts if part])] = None
    return list(keys)


# --- attributes by resource ----------------------------------------------------------------------


def _check_attributes(resource: str, attributes: object) -> None:
    if not isinstance(attributes, Mapping):
        problem = f"is a {type(attributes).__name__}, not a mapping of attributes"
        raise InvalidResourceAttributeError(resource, DAGSTER_HINT, problem)
    known = ResourceAttributes.__annotations__
    for name, value in attributes.items():
        if name not in known:
            problem = f"is not known.{nearest(name, known)} Known are {', '.join(sorted(known))}"
            raise InvalidResourceAttributeError(resource, name, problem)
        if name == "automation_condition":
            _automation_condition(resource, value)
        elif name == "freshness_policy":
            _freshness_policy(resource, value)
        elif name == "checks":
            DltChecks.of(value, resource=resource)
        elif name == "window" and value not in _WINDOWS:
            problem = f"is {value!r}.{nearest(str(value), _WINDOWS)} Known are {listed(_WINDOWS)}"
            raise InvalidResourceAttributeError(resource, name, problem)
        elif name == "nested_tables" and (
            isinstance(value, str) or not all(isinstance(each, str) for each in value)
        ):
            problem = f"is {value!r}, not a list of names"
            raise InvalidResourceAttributeError(resource, name, problem)


def _with_attributes(
    spec: dg.AssetSpec, resource: str, attributes: ResourceAttributes
) -> dg.AssetSpec:
    given: dict[str, Any] = {k: v for k, v in attributes.items() if k not in _NOT_OF_SPECS}
    added: dict[str, Any] = {
        name: given.pop(name) for name in ("owners", "tags", "metadata") if name in given
    }
    if "kinds" in given:
        added["kinds"] = set(given.pop("kinds"))
    if "automation_condition" in given:
        value = given["automation_condition"]
        given["automation_condition"] = _automation_condition(resource, value)
    if "freshness_policy" in given:
        given["freshness_policy"] = _freshness_policy(resource, given["freshness_policy"])
    try:
        return spec.replace_attributes(**given).merge_attributes(**added)
    except (dg.DagsterError, TypeError, ValueError) as error:
        raise InvalidResourceAttributeError(
            resource, ", ".join(sorted(attributes)), f"is refused by Dagster ({error})"
        ) from error


def _automation_condition(resource: str, value: object) -> dg.AutomationCondition[Any]:
    if isinstance(value, dg.AutomationCondition):
        return value
    if value == "eager":
        return dg.AutomationCondition.eager()
    if value == "on_missing":
        return dg.AutomationCondition.on_missing()
    try:
        return dg.AutomationCondition.on_cron(str(value))
    except Exception as error:  # Dagster does not export what it raises here
        raise InvalidResourceAttributeError(
            resource,
            "automation_condition",
            f"is {value!r}, not a condition, 'eager', 'on_missing' or a cron schedule",
        ) from error


def _freshness_policy(resource: str, value: object) -> dg.FreshnessPolicy:
    if isinstance(value, dg.FreshnessPolicy):
        return value
    if isinstance(value, Mapping) and "fail_hours" in value:
        fail, warn = value["fail_hours"], value.get("warn_hours")
        if set(value) <= {"fail_hours", "warn_hours"}:
            return dg.FreshnessPolicy.time_window(
                fail_window=timedelta(hours=fail),
                warn_window=timedelta(hours=warn) if warn is not None else None,
            )
    raise InvalidResourceAttributeError(
        resource,
        "freshness_policy",
        f"is {value!r}, not a policy or a mapping with fail_hours and, if wanted, warn_hours",
    )
