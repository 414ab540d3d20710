"""Superseded per-attribute getters of the translator; one commit deletes this file.

Code written before `get_asset_spec` existed overrides one getter per attribute. Each still works
and wins, with a warning that names the method to move to.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
from dlt.common.destination import Destination
from dlt.extract import DltResource

from dagster_dlt.constants import DAGSTER_STORAGE_KIND

#: Getter → the attribute of the asset spec that it decides.
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "get_asset_key": "key",
    "get_auto_materialize_policy": "automation_condition",
    "get_automation_condition": "automation_condition",
    "get_deps_asset_keys": "deps",
    "get_description": "description",
    "get_group_name": "group_name",
    "get_metadata": "metadata",
    "get_owners": "owners",
    "get_tags": "tags",
    "get_kinds": "kinds",
}


class SupersededGetters:
    """One getter per attribute, each answering with the default asset spec's value."""

    def _default_spec(self, resource: DltResource) -> dg.AssetSpec:
        raise NotImplementedError

    def get_asset_key(self, resource: DltResource) -> dg.AssetKey:
        """Return the asset key of `resource`. Superseded by `get_asset_spec`."""
        return self._default_spec(resource).key

    def get_auto_materialize_policy(self, resource: DltResource) -> dg.AutoMaterializePolicy | None:
        """Return None: no policy by default. Superseded by `get_asset_spec`."""
        del resource
        return None

    def get_automation_condition(self, resource: DltResource) -> dg.AutomationCondition[Any] | None:
        """Return the auto-materialize policy as a condition. Superseded by `get_asset_spec`."""
        policy = self.get_auto_materialize_policy(resource)
        if policy:
            return policy.to_automation_condition()
        return self._default_spec(resource).automation_condition

    def get_deps_asset_keys(self, resource: DltResource) -> Iterable[dg.AssetKey]:
        """Return the keys of the upstream assets. Superseded by `get_asset_spec`."""
        return [dep.asset_key for dep in self._default_spec(resource).deps]

    def get_description(self, resource: DltResource) -> str | None:
        """Return the docstring of the resource function. Superseded by `get_asset_spec`."""
        return self._default_spec(resource).description

    def get_group_name(self, resource: DltResource) -> str | None:
        """Return the group, by default None. Superseded by `get_asset_spec`."""
        return self._default_spec(resource).group_name

    def get_metadata(self, resource: DltResource) -> Mapping[str, Any]:
        """Return the definition metadata. Superseded by `get_asset_spec`."""
        return self._default_spec(resource).metadata

    def get_owners(self, resource: DltResource) -> Sequence[str] | None:
        """Return the owners, by default none. Superseded by `get_asset_spec`."""
        return self._default_spec(resource).owners

    def get_tags(self, resource: DltResource) -> Mapping[str, str]:
        """Return the tags, by default none. Superseded by `get_asset_spec`."""
        spec = self._default_spec(resource)
        return {k: v for k, v in spec.tags.items() if not k.startswith("dagster/kind/")}

    def get_kinds(
        self, resource: DltResource, destination: Destination[Any, Any] | None
    ) -> set[str]:
        """Return `dlt` and the destination's name. Superseded by `get_asset_spec`."""
        del resource
        return {"dlt", destination.destination_name} if destination else {"dlt"}


def apply_overridden(
    translator: SupersededGetters,
    resource: DltResource,
    destination: Destination[Any, Any] | None,
    spec: dg.AssetSpec,
) -> dg.AssetSpec:
    """Return `spec` with what the overridden getters of `translator` decide.

    Warns:
        SupersessionWarning: for each getter that is overridden.
    """
    cls = type(translator)
    overridden = [
        name for name in _ATTRIBUTES if getattr(cls, name) is not getattr(SupersededGetters, name)
    ]
    for name in overridden:
        warnings.warn(
            f"{cls.__name__}.{name} is superseded and will be removed. "
            "Override get_asset_spec instead.",
            dg.SupersessionWarning,
            stacklevel=2,
        )
    for attribute in dict.fromkeys(_ATTRIBUTES[name] for name in overridden):
        spec = _with_attribute(
            spec, attribute, _value(translator, attribute, resource, destination)
        )
    return spec


def _value(
    translator: SupersededGetters,
    attribute: str,
    resource: DltResource,
    destination: Destination[Any, Any] | None,
) -> Any:  # noqa: ANN401 - each attribute has a type of its own
    if attribute == "kinds":
        return translator.get_kinds(resource, destination)
    # The last getter named for an attribute is the one to ask: the automation condition's own
    # default asks the auto-materialize policy.
    getter = [name for name, decided in _ATTRIBUTES.items() if decided == attribute][-1]
    return getattr(translator, getter)(resource)


def _with_attribute(
    spec: dg.AssetSpec,
    attribute: str,
    value: Any,  # noqa: ANN401 - as above
) -> dg.AssetSpec:
    if attribute == "metadata" and DAGSTER_STORAGE_KIND in spec.metadata:
        value = {DAGSTER_STORAGE_KIND: spec.metadata[DAGSTER_STORAGE_KIND], **(value or {})}
    if attribute == "tags":
        # Kinds are kept among the tags: setting the tags alone would lose them.
        return spec.replace_attributes(tags=value or {}, kinds=set(spec.kinds))
    if attribute == "deps":
        value = list(value or [])
    return spec.replace_attributes(**{attribute: value})
