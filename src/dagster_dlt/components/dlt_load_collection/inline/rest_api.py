"""`rest_api:`, dlt's source for REST APIs, in dlt's own words."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from dlt.extract import DltSource
from pydantic import Field, model_validator
from typing_extensions import Self

from dagster_dlt.components.dlt_load_collection.inline.form import Form, refuse_unknown


class RestApiForm(Form):
    """Resources of a REST API. The blocks are those of dlt's `RESTAPIConfig`."""

    client: dict[str, Any] = Field(
        description="How to reach the API: base_url, headers, auth, paginator.",
        examples=[
            {
                "base_url": "https://api.example.com/v1/",
                "auth": {"type": "bearer", "token": "{{ env.API_TOKEN }}"},
                "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
            }
        ],
    )
    resource_defaults: dict[str, Any] | None = Field(
        None,
        description="What resources have in common, unless they say otherwise.",
        examples=[{"primary_key": "id", "write_disposition": "merge"}],
    )
    resources: list[Any] = Field(
        min_length=1,
        description="The resources: a path each, or a mapping with name, endpoint and hints.",
        examples=[["customers", {"name": "orders", "endpoint": {"path": "orders"}}]],
    )

    @model_validator(mode="after")
    def _has_no_other_fields_inside(self) -> Self:
        # dlt would say so too, with the whole resource and all forms that it could have had.
        forms = _rest_api().typing
        refuse_unknown(self.client, list(forms.ClientConfig.__annotations__), "client")
        for place, block in self._blocks():
            refuse_unknown(block, list(forms.EndpointResource.__annotations__), place)
            endpoint = block.get("endpoint")
            if isinstance(endpoint, Mapping):
                refuse_unknown(endpoint, list(forms.Endpoint.__annotations__), f"{place}.endpoint")
        return self

    def _blocks(self) -> list[tuple[str, Mapping[str, Any]]]:
        found = [(f"resources[{i}]", block) for i, block in enumerate(self.resources)]
        found.append(("resource_defaults", self.resource_defaults))
        return [(place, block) for place, block in found if isinstance(block, Mapping)]

    def source(self, name: str | None) -> DltSource:
        """Return dlt's source. It asks the API for nothing before it is extracted."""
        config: Any = {"client": self.client, "resources": self.resources}
        if self.resource_defaults is not None:
            config["resource_defaults"] = self.resource_defaults
        made: DltSource = _rest_api().rest_api_source(config, name=name or "rest_api")
        return made

    described = source


def _rest_api() -> ModuleType:
    # Only here: it takes a while to be imported.
    from dlt.sources import rest_api  # noqa: PLC0415

    return rest_api
