"""What `dg scaffold defs dagster_dlt.DltLoadCollectionComponent` writes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any, Final

import dagster as dg
import tomlkit
from pydantic import BaseModel, Field

from dagster_dlt.errors import ScaffoldError

_INIT_SECONDS: Final = 300


class DltLoadCollectionScaffoldParams(BaseModel):
    """Options of the scaffold command."""

    source: str | None = Field(
        None, description="Name of a dlt source that `dlt init` knows. Needs --destination."
    )
    destination: str | None = Field(
        None, description="Name of the dlt destination to load into. Needs --source."
    )


class DltLoadCollectionScaffolder(dg.Scaffolder[DltLoadCollectionScaffoldParams]):
    """Writes a component with one load, and what it needs beside it.

    Without options the load is a small one that runs as it is. With `source` and `destination`
    it is a source that `dlt init` fetches, with dlt's own example beside it; of rest_api,
    sql_database and filesystem, which come with dlt, a load that is nothing but YAML.
    """

    @classmethod
    def get_scaffold_params(cls) -> type[DltLoadCollectionScaffoldParams]:
        """Return the options of the scaffold command."""
        return DltLoadCollectionScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[DltLoadCollectionScaffoldParams]) -> None:
        """Write the files.

        Raises:
            ScaffoldError: only one option is given, or `dlt init` failed. Nothing is written.
        """
        try:
            with TemporaryDirectory() as temporary:
                folder = Path(temporary)
                _write(folder, request)
                for written in folder.iterdir():
                    shutil.move(written, request.target_path / written.name)
        except BaseException:
            # Dagster has made the folder already, and would refuse a second try because of it.
            if request.target_path.is_dir() and not any(request.target_path.iterdir()):
                request.target_path.rmdir()
            raise


def _write(folder: Path, request: dg.ScaffoldRequest[DltLoadCollectionScaffoldParams]) -> None:
    source, destination = _options(request)
    name = _name(request.target_path)
    values = {"name": name, "destination": destination or "duckdb", "type_name": request.type_name}
    values["prefix"] = name.upper()
    template = "loads.py"
    if source and destination:
        values |= _init(folder, source, destination)
        own = f"defs.{source}.yaml"
        if _template(own).is_file():
            _write_inline(folder, own, values)
            return
        _list_settings(folder, "sources", "destination")
        template = "loads.fetched.py"
    (folder / "loads.py").write_text(_filled(template, values), encoding="utf-8")
    if request.scaffold_format == "yaml":
        (folder / "defs.yaml").write_text(_filled("defs.yaml", values), encoding="utf-8")
    else:
        module, _, class_name = request.type_name.rpartition(".")
        text = _filled("component.py", {"module": module, "class_name": class_name})
        (folder / "component.py").write_text(text, encoding="utf-8")


def _write_inline(folder: Path, template: str, values: Mapping[str, str]) -> None:
    """Write a load that is nothing but YAML, and the variables that it asks for."""
    text = _filled(template, values)
    (folder / "defs.yaml").write_text(text, encoding="utf-8")
    # Where its own settings come from is written in the YAML.
    _list_settings(folder, "destination", also=re.findall(rf"\b{values['prefix']}_[A-Z_]+", text))


def _options(
    request: dg.ScaffoldRequest[DltLoadCollectionScaffoldParams],
) -> tuple[str | None, str | None]:
    source, destination = request.params.source, request.params.destination
    if request.append:
        problem = f"{request.target_path.name} defines something already"
        raise ScaffoldError(problem, "Scaffold it in a folder of its own")
    if (source is None) != (destination is None):
        given, missing = ("source", "destination") if source else ("destination", "source")
        problem = f"--{given} is given without --{missing}"
        raise ScaffoldError(problem, "Give both, or none")
    if source and request.scaffold_format == "python":
        # Beside a component.py Dagster imports every file, and dlt's examples are not made for it.
        problem = "--source is given with --format python"
        raise ScaffoldError(problem, "Leave the format out: what `dlt init` fetches needs YAML")
    return source, destination


def _name(folder: Path) -> str:
    """Return a name for pipeline and dataset that every destination takes as it is."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"loads_{name}".strip("_")


def _template(name: str) -> Path:
    return Path(__file__).parent / "templates" / f"{name}.template"


def _filled(name: str, values: Mapping[str, str]) -> str:
    return Template(_template(name).read_text(encoding="utf-8")).substitute(values)


# --- dlt init ------------------------------------------------------------------------------------


def _init(folder: Path, source: str, destination: str) -> dict[str, str]:
    """Let `dlt init` write the code of `source`; return the names that templates have for it."""
    command = [sys.executable, "-m", "dlt", "--non-interactive", "init", source, destination]
    environment = {**os.environ, "DLT_PROJECT_DIR": str(folder)}
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and dlt checks both names
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_INIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(source, destination, f"no answer in {_INIT_SECONDS} s") from error
    example = folder / f"{source}_pipeline.py"
    # Its exit code is no help: run as a module, dlt ends with 0 whatever happened.
    if not example.is_file():
        raise _failed(source, destination, done.stderr.strip() or done.stdout.strip())
    module = source if (folder / source).is_dir() else example.stem
    return {"source": source, "module": module, "example": example.name}


def _failed(source: str, destination: str, reason: str) -> ScaffoldError:
    return ScaffoldError(
        f"`dlt init {source} {destination}` failed: {reason.rstrip('.')}",
        "Sources other than rest_api, sql_database and filesystem are downloaded from GitHub: "
        "check the names and the network, and try again",
    )


def _list_settings(folder: Path, *sections: str, also: Iterable[str] = ()) -> None:
    """Replace dlt's settings files by a list of variables: it reads only the project's own."""
    names = set(also) | {
        name
        for file in ("config.toml", "secrets.toml")
        for name in _settings(folder / ".dlt" / file, sections)
    }
    shutil.rmtree(folder / ".dlt", ignore_errors=True)
    (folder / ".gitignore").unlink(missing_ok=True)
    if names:
        head = (
            "# Settings that the load asks for. Copy what you need to the .env of your project.\n"
        )
        text = head + "".join(f"# {name}=\n" for name in sorted(names))
        (folder / "env.example").write_text(text, encoding="utf-8")


def _settings(file: Path, sections: Sequence[str]) -> Iterator[str]:
    if file.is_file():
        document = tomlkit.parse(file.read_text(encoding="utf-8")).unwrap()
        for section in sections:
            yield from _variables(document.get(section, {}), section)


def _variables(settings: Mapping[str, Any], *above: str) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _variables(value, *above, key)
        else:
            yield "__".join([*above, key]).upper()
