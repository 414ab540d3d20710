"""`DltIOManager`: tables that dlt has loaded, as inputs of the assets downstream."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
from dlt.pipeline.pipeline import Pipeline
from pydantic import Field, PrivateAttr
from typing_extensions import override

from dagster_dlt import _dagster
from dagster_dlt._binding import Behind
from dagster_dlt._redaction import shielded
from dagster_dlt.constants import DAGSTER_TABLE_NAME, META_KEY_TABLE
from dagster_dlt.environment import Environment
from dagster_dlt.errors import (
    InputMetadataError,
    NotADltAssetError,
    NotReadableError,
    ReadOnlyError,
)
from dagster_dlt.loading.partitions import is_named_after
from dagster_dlt.metadata import plain
from dagster_dlt.reading.kinds import kind_of
from dagster_dlt.reading.part import Cell
from dagster_dlt.reading.table import Wanted
from dagster_dlt.resource import DagsterDltResource

#: What an input's metadata, or in case of the last one the asset's as well, may say.
_COLUMNS: Final = "columns"
_TABLE: Final = "table"
_PARTITION_EXPR: Final = "partition_expr"
#: What to do where it is not known which resource loads an asset.
_GIVE: Final = "Give the one that loads it to DltIOManager(dlt_resource=...)"


class DltIOManager(dg.ConfigurableIOManager):
    """Reads the table of a dlt asset for the parameter of an asset downstream of it.

    Where the table is follows from the asset. What it is read as says the annotation of the
    parameter: `pandas.DataFrame`, also where there is none, `polars.DataFrame` or `LazyFrame`,
    `pyarrow.Table` or `RecordBatchReader`, `duckdb.DuckDBPyRelation`. Assets with the same time
    partitions get the rows of their partition. `docs/guides/reading.md` has more.

    Attributes:
        dlt_resource: What loads the assets, where destination and dataset depend on it. By default
            the one `DagsterDltResource` of the definitions.
        dlt_columns: Whether a table is read with the columns that dlt has added, such as
            `_dlt_id`. Those that an input names itself it gets.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DagsterDltResource, DltIOManager
        >>> defs = dg.Definitions(
        ...     resources={"dlt_resource": DagsterDltResource(), "dlt_tables": DltIOManager()}
        ... )
    """

    dlt_resource: DagsterDltResource | None = None
    dlt_columns: bool = Field(
        default=True, description="Whether to read the columns that dlt adds to a table."
    )
    _closing: list[Callable[[], object]] = PrivateAttr(default_factory=list)

    @override
    def load_input(self, context: dg.InputContext) -> Any:
        """Read the table of the asset upstream.

        Args:
            context: Context of the input, which Dagster gives.

        Raises:
            ReadError: it cannot be read; the subclass says why.
        """
        return shielded(lambda: self._read(context))

    @override
    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuse to store anything: what dlt assets yield is stored already.

        Args:
            context: Context of the output, which Dagster gives.
            obj: The value.

        Raises:
            ReadOnlyError: always.
        """
        del obj
        name = context.asset_key.to_user_string() if context.has_asset_key else context.name
        raise ReadOnlyError(name)

    @override
    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections of DuckDB's relations.

        Args:
            context: Context of the resource, which Dagster gives.
        """
        while self._closing:
            self._closing.pop()()

    def _read(self, context: dg.InputContext) -> Any:  # noqa: ANN401 - what is annotated
        asset = context.asset_key.to_user_string() if context.has_asset_key else context.name
        upstream = context.upstream_output
        known = upstream.definition_metadata if upstream else {}
        behind = Behind.of(known)
        if behind is None:
            raise NotADltAssetError(asset)
        read = kind_of(context.dagster_type.typing_type, asset)
        environment = self._environment(context, asset)
        with environment.configured():
            pipeline, cells = _pipeline(context, behind, environment)
            wanted = self._wanted(context, asset, behind, cells, known)
            return read(pipeline, wanted, self._closing.append)

    def _wanted(
        self,
        context: dg.InputContext,
        asset: str,
        behind: Behind,
        cells: Sequence[Cell] | None,
        known: Mapping[str, Any],
    ) -> Wanted:
        source, given = behind.source.known, context.definition_metadata
        assert source is not None, "definitions know the resources of their source"  # noqa: S101
        declared = behind.translator.declared_window(source.resources[behind.resource])
        return Wanted(
            asset,
            source,
            behind.resource,
            {} if declared is None else {behind.resource: declared},
            table=_table(asset, given.get(_TABLE)),
            of_asset=_table_of(known),
            columns=_columns(asset, given.get(_COLUMNS)),
            dlt_columns=self.dlt_columns,
            cells=cells,
            keys=context.asset_partition_keys if cells else (),
            order=lambda: _dagster.partition_keys(context),
            is_known=behind.source.is_complete,
            expressions=_expressions(asset, given.get(_PARTITION_EXPR, known.get(_PARTITION_EXPR))),
        )

    def _environment(self, context: dg.InputContext, asset: str) -> Environment:
        """Return the environment that the asset is loaded with.

        Raises:
            NotReadableError: several come into question, or one whose fields nobody knows.
        """
        if self.dlt_resource:
            return Environment.of(dict(self.dlt_resource))
        environments: list[Environment] = []
        for fields in _dagster.fields_of_resources(context, DagsterDltResource):
            if fields is None:
                problem = "the DagsterDltResource of the definitions is configured at launch"
                raise NotReadableError(asset, problem, _GIVE)
            environment = Environment.of(fields)
            if environment not in environments:
                environments.append(environment)
        if len(environments) > 1:
            problem = "the definitions have several DagsterDltResources for different places"
            raise NotReadableError(asset, problem, _GIVE)
        return environments[0] if environments else Environment.of({})


def _pipeline(
    context: dg.InputContext, behind: Behind, environment: Environment
) -> tuple[Pipeline, Sequence[Cell] | None]:
    """Return the pipeline that an asset is loaded with here, and the partitions that are read.

    None are told apart where the partition has a pipeline or a dataset to itself.
    """
    cells = _dagster.cells_of(context)
    keys = context.asset_partition_keys if cells else []
    key = keys[0] if len(keys) == 1 else None
    if factory := behind.pipeline.factory:
        window = cells[0].window if cells and key else None
        time = dg.TimeWindow(window.start, window.end) if window else None
        built = factory.of_partition(key, time)
    else:
        built = behind.pipeline.built()
    plain = environment.plain(built, {})
    if key and is_named_after(key, plain.pipeline_name, plain.dataset_name):
        cells = None
    return environment.pipeline(plain), cells


# --- what metadata say ---------------------------------------------------------------------------


def _table(asset: str, given: object) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise InputMetadataError(asset, _TABLE, "is not the name of a table")


def _table_of(known: Mapping[str, Any]) -> str | None:
    """Return the last part of the table's name that the definition of an asset has."""
    names = [plain(known[key]) for key in (META_KEY_TABLE, DAGSTER_TABLE_NAME) if key in known]
    return str(names[0]).rsplit(".", 1)[-1] if names else None


def _columns(asset: str, given: object) -> Sequence[str] | None:
    if given is None:
        return None
    if isinstance(given, list | tuple) and given and all(isinstance(each, str) for each in given):
        return given
    raise InputMetadataError(asset, _COLUMNS, 'is not a list of columns, such as ["id", "total"]')


def _expressions(asset: str, given: object) -> Mapping[str, str]:
    if given is None:
        return {}
    if isinstance(given, str):
        return {"": given}
    if isinstance(given, Mapping) and all(isinstance(each, str) for each in given.values()):
        return {str(name): each for name, each in given.items()}
    problem = "is neither a column nor an expression in SQL, nor a mapping of these by dimension"
    raise InputMetadataError(asset, _PARTITION_EXPR, problem)
