"""`DltResourceSpec`: what is known of a resource whose source is built when it runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_dlt._facts import KnownResource


class DltResourceSpec(dg.Model):
    """What is known of a dlt resource before its source is built.

    The words are dlt's, and mean what they mean in `dlt.resource`. What is left out is not known:
    the run finds it in the resource itself, which always wins.

    Example:
        >>> from dagster_dlt import DltResourceSpec
        >>> DltResourceSpec(name="orders", primary_key="id", write_disposition="merge").name
        'orders'
    """

    name: str = Field(description="Name of the resource.", examples=["orders"])
    table_name: str | None = Field(
        default=None,
        description="Name of its table, where that is another one.",
        examples=["raw_orders"],
    )
    description: str | None = Field(default=None, description="Description of its asset.")
    primary_key: str | Sequence[str] | None = Field(
        default=None, description="Column, or columns, of its primary key.", examples=["id"]
    )
    write_disposition: str | Mapping[str, Any] | None = Field(
        default=None, description="How rows are written.", examples=["merge"]
    )
    columns: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        description="Hints by column, as dlt has them.",
        examples=[{"id": {"data_type": "bigint", "nullable": False}}],
    )
    parent: str | None = Field(
        default=None, description="Name of the resource that feeds it, if it is a transformer."
    )
    nested_tables: Sequence[str] = Field(
        default=(),
        description="Names of the tables nested in its own, where these are to be assets.",
        examples=[["orders__items"]],
    )

    @classmethod
    def of(cls, given: "str | DltResourceSpec") -> "DltResourceSpec":
        """Return a spec for a resource of which the name alone may be given."""
        return given if isinstance(given, DltResourceSpec) else cls(name=given)

    def known(self) -> KnownResource:
        """Return what definitions are made of."""
        keys = [self.primary_key] if isinstance(self.primary_key, str) else self.primary_key or ()
        return KnownResource(
            name=self.name,
            table_name=self.table_name,
            description=self.description,
            parent=self.parent,
            write_disposition=self.write_disposition,
            primary_key=tuple(keys),
            columns=self.columns,
            nested_tables=tuple(self.nested_tables),
        )
