"""A project with a `defs` folder, and a shop for its components to load."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import dedent, indent

import dagster as dg
import duckdb
from dagster.components.testing.utils import DefsFolderSandbox

LOADS = """
import dlt

@dlt.source(name="shop")
def shop():
    @dlt.resource(primary_key="id", write_disposition="merge")
    def customers():
        '''Everybody who ever bought something.'''
        yield [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}]

    @dlt.resource(primary_key="id", write_disposition="merge")
    def orders():
        '''What they bought.'''
        yield [{"id": 1}, {"id": 2}, {"id": 3}]

    return customers, orders

shop_source = shop()
shop_pipeline = dlt.pipeline(
    "shop", destination=dlt.destinations.duckdb("warehouse.duckdb"), dataset_name="raw"
)
"""

YAML = """
type: dagster_dlt.DltLoadCollectionComponent
attributes:
  loads:
    - source: .loads.shop_source
      pipeline: .loads.shop_pipeline
"""


class Project:
    """A project in a temporary folder."""

    def __init__(self, sandbox: DefsFolderSandbox) -> None:
        self.sandbox = sandbox
        self.folder = sandbox.defs_folder_path

    def write(self, files: Mapping[str, str], component: str = "ingest") -> None:
        """Write a component's files: by default `loads.py` with a shop, and its YAML."""
        for name, text in {"loads.py": LOADS, "defs.yaml": YAML, **files}.items():
            path = self.folder / component / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def write_yaml(self, loads: str, component: str = "ingest") -> None:
        """Write a component that is nothing but YAML: a list of loads, indented as it likes."""
        lines = indent(dedent(loads).strip("\n"), "    ")
        text = f"type: dagster_dlt.DltLoadCollectionComponent\nattributes:\n  loads:\n{lines}\n"
        path = self.folder / component / "defs.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @contextmanager
    def definitions(self) -> Iterator[dg.Definitions]:
        """Load the definitions of all components, as a code location would."""
        with self.sandbox.build_all_defs() as defs:
            dg.Definitions.validate_loadable(defs)
            yield defs

    def specs(self) -> dict[str, dg.AssetSpec]:
        """Return the specs of all assets by key."""
        with self.definitions() as defs:
            return {
                spec.key.to_user_string(): spec for assets in defs.assets for spec in assets.specs
            }


def keys(defs: dg.Definitions) -> list[str]:
    """Return the keys of the assets that can be materialized."""
    return sorted(key.to_user_string() for assets in defs.assets for key in assets.keys)


def assets_at(defs: dg.Definitions, key: str) -> dg.AssetsDefinition:
    """Return the definition that an asset is part of."""
    return defs.resolve_assets_def(dg.AssetKey.from_user_string(key))


def load_all(defs: dg.Definitions, **options: object) -> dg.ExecuteInProcessResult:
    """Materialize everything in one run."""
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(**options)


def rows(table: str, file: str = "warehouse.duckdb") -> int:
    """Count the rows of a table at the destination."""
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
