"""A project with a `defs` folder, and a shop for its components to load."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent

import dagster as dg
import duckdb
from dagster.components.testing.utils import DefsFolderSandbox

import dagster_dlt

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
        path = self.folder / component / "defs.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(component_of(loads))

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


def component_of(loads: str) -> str:
    """Return the YAML of a component, from that of its loads."""
    lines = indent(dedent(loads).strip("\n"), "    ")
    return f"type: dagster_dlt.DltLoadCollectionComponent\nattributes:\n  loads:\n{lines}\n"


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


class DgProject:
    """A project as `dg` makes one, in which `dg` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.defs = folder / "src" / "proj" / "defs"
        self.defs.mkdir(parents=True)
        (self.defs / "__init__.py").touch()
        (self.defs.parent / "definitions.py").write_text(
            "from pathlib import Path\n"
            "import dagster as dg\n\n"
            "@dg.definitions\n"
            "def defs():\n"
            "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
        )
        (folder / "pyproject.toml").write_text(
            '[project]\nname = "proj"\nversion = "0"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
            '[tool.dg.project]\nroot_module = "proj"\nregistry_modules = ["dagster_dlt"]\n'
        )

    def dg(
        self, *arguments: str, offline: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Call `dg`; offline in a namespace without a network, not even the loopback interface."""
        source_root = Path(dagster_dlt.__file__).parents[1]
        paths = os.pathsep.join([str(source_root), str(self.folder / "src")])
        return subprocess.run(
            [*(OFFLINE if offline else ()), Path(sys.executable).with_name("dg"), *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": paths, "DAGSTER_HOME": "", **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def files(self) -> set[str]:
        """Return what there is in the project, but for what Python compiles."""
        found = (path for path in self.folder.rglob("*") if "__pycache__" not in path.parts)
        return {str(path.relative_to(self.folder)) for path in found}


#: Starts a command without a network; a bare user may do so where user namespaces are allowed.
OFFLINE = ("unshare", "--net", "--map-root-user")


def can_be_offline() -> bool:
    """Tell whether this machine can start a command without a network."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*OFFLINE, "true"], capture_output=True, check=False).returncode == 0
