"""The dbt project on top of what dlt loads."""

import os
import sys
from pathlib import Path

from dagster_dbt import DbtProject

from flights.pipeline import home


def dbt_project() -> DbtProject:
    """Return the project, with its manifest, which dbt makes of it in a few seconds."""
    target = home() / "dbt"
    # By the first dbt's profile finds the database; by the second all that dbt writes is there too.
    os.environ["FLIGHTS_HOME"] = str(home())
    os.environ["DBT_TARGET_PATH"] = str(target)
    # dbt is installed beside Python, whose environment need not be active.
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    project = DbtProject(Path(__file__).resolve().parents[2] / "dbt", target_path=target)
    project.prepare_if_dev()
    if not project.manifest_path.exists():
        project.preparer.prepare(project)
    return project
