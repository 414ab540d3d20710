"""`type:`, any other dlt source by its reference, with arguments from YAML."""

from typing import Any, ClassVar

import dlt
from dlt.extract import DltResource, DltSource
from dlt.extract.reference import SourceReference
from pydantic import Field

from dagster_dlt.components.dlt_load_collection.inline.form import Form
from dagster_dlt.components.dlt_load_collection.inline.hints import HintsForm


class ResourceForm(HintsForm):
    """A resource of the source, with hints in the place of its own. Its name may stand for it."""

    short_for: ClassVar[str | None] = "name"

    name: str = Field(description="Name of the dlt resource.", examples=["issues"])


class ReferenceForm(Form):
    """A source function, and what it is called with when the load runs."""

    type: str = Field(
        description="dlt's reference of the source function: a name, or package.module.name.",
        examples=["my_package.github.github_reactions"],
    )
    arguments: dict[str, Any] = Field(
        {}, description="Arguments of the source function.", examples=[{"owner": "dagster-io"}]
    )
    resources: list[ResourceForm] | None = Field(
        None,
        min_length=1,
        description="The resources to load: a name each, or a mapping with the name and hints.",
        examples=[["issues", "pull_requests"]],
    )

    def source(self, name: str | None) -> DltSource:
        """Call the source function."""
        function = SourceReference.find(self.type)
        source = (function.clone(name=name) if name else function)(**self.arguments)
        if self.resources is None:
            return source
        for resource in self.resources:
            if resource.name in source.resources:
                resource.give(source.resources[resource.name])
        # One that is not there is missed by the run, with the assets that it is missed for.
        return source.with_resources(
            *(r.name for r in self.resources if r.name in source.resources)
        )

    def described(self, name: str | None) -> DltSource | None:
        """Return resources of these names without calling the function; None without names."""
        function = SourceReference.find(self.type)
        if self.resources is None:
            return None
        forms = self.resources

        @dlt.source(name=name or function.name, section=function.section)
        def source() -> Any:  # noqa: ANN401 - dlt takes many forms
            for form in forms:
                yield _described(form)

        return source()


def _described(form: ResourceForm) -> DltResource:
    resource: DltResource = dlt.resource([], name=form.name)
    _give(form, resource)
    return resource


def _give(form: ResourceForm, resource: DltResource) -> None:
    form.give(resource)
    form.tell_time(resource)
    if form.incremental:
        resource.apply_hints(incremental=form.incremental.incremental())
