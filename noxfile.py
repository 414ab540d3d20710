"""The tests at both ends of what pyproject.toml allows: `make test-matrix`.

Sparse on purpose: every Python and both resolutions run at least once, not their product. The
oldest Python found gets the floors, the newest one gets the newest releases, those in between
take turns. Python 3.14 joins when MATRIX_PYTHON_314=1 is set. A Python that is not installed is
left out, and the log says so; none is downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False

EXTRAS = "delta,duckdb,filesystem,postgres,sql-database"
FLOORS, NEWEST = "floors", "newest"
WANTED = ["3.10", "3.11", "3.12", "3.13"]
if os.environ.get("MATRIX_PYTHON_314"):
    WANTED.append("3.14")

os.environ["UV_PYTHON_DOWNLOADS"] = "never"


def runs(executable: Path, version: str) -> bool:
    """Tell whether the file starts a Python of this version; a pyenv shim may start none."""
    question = [executable, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(question, capture_output=True, text=True, check=False)  # noqa: S603 - a Python found on this machine
    return answer.stdout.strip() == version


def find(version: str) -> Path | None:
    """Look for a Python on PATH, then among the versions that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    places = [Path(on_path)] if on_path else []
    places += sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    return next((place for place in places if runs(place, version)), None)


def plan() -> list[tuple[str, str]]:
    """Pair the Pythons found here with a resolution each."""
    found = {version: place for version in WANTED if (place := find(version))}
    if missing := [version for version in WANTED if version not in found]:
        print(f"not found, left out: Python {', '.join(missing)}", file=sys.stderr)  # noqa: T201 - nox has no logger at this point
    # In front, since a shim of the same name may stand earlier on PATH.
    places = [str(place.parent) for place in found.values()]
    os.environ["PATH"] = os.pathsep.join([*places, os.environ["PATH"]])
    versions = list(found)
    pairs = [
        (version, FLOORS if index % 2 == 0 and version != versions[-1] else NEWEST)
        for index, version in enumerate(versions)
    ]
    if len(versions) == 1:
        pairs.append((versions[0], FLOORS))
    return pairs


@nox.session
@nox.parametrize(("python", "resolution"), plan())
def tests(session: nox.Session, resolution: str) -> None:
    """Install the library with all its extras at one end, and run the tests."""
    strategy = "lowest-direct" if resolution == FLOORS else "highest"
    session.install(
        *("--resolution", strategy),
        *("--editable", f".[{EXTRAS}]"),
        *("--group", "test"),
        silent=False,
    )
    session.run("uv", "pip", "check", external=True)
    # Old releases warn of their own old code: at the floors a warning is not an error.
    quieter = ["-W", "default"] if resolution == FLOORS else []
    session.run("python", "-m", "pytest", *quieter, *session.posargs)
