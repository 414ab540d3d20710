"""`dagster-dlt`: what an operator needs when a load has failed, or a cursor is to be moved.

Every change is shown first, and made with `--yes` only. What is changed at the destination stands
in the ledger there, beside the loads of Dagster's runs.
"""

from pathlib import Path

import click

from dagster_dlt.cli.cursors import cursors_group
from dagster_dlt.cli.loads import leases, loads
from dagster_dlt.cli.packages import packages
from dagster_dlt.cli.snapshots import snapshots
from dagster_dlt.cli.where import PlainErrors, Where
from dagster_dlt.version import __version__


@click.group(
    cls=PlainErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-m",
    "--module-name",
    "module",
    envvar="DAGSTER_MODULE_NAME",
    help="Module with Dagster definitions, or with dlt pipelines.",
)
@click.option(
    "-f",
    "--python-file",
    "file",
    envvar="DAGSTER_PYTHON_FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with Dagster definitions, or with dlt pipelines.",
)
@click.option(
    "-p",
    "--pipeline",
    "chosen",
    help="Name of the dlt pipeline, or NAME/DATASET. Needed for changes where there are several.",
)
@click.option(
    "--workspace-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the workspaces. Taken from the definitions' DagsterDltResource if it has "
    "one; otherwise it is `.dagster` below the pipeline's own directory.",
)
@click.version_option(__version__, prog_name="dagster-dlt")
@click.pass_context
def main(
    ctx: click.Context,
    module: str | None,
    file: Path | None,
    chosen: str | None,
    workspace_dir: Path | None,
) -> None:
    """Look after the dlt pipelines of a Dagster code location.

    Run it where the loads run: it needs the code, the credentials, and, for packages, the disk.
    Changes are shown, and only made with --yes. It ends with 0 when all is well, with 1 when
    nothing matches or a change is refused, and with 2 when it is called wrongly.

    Example: dagster-dlt -m shop.defs packages list
    """
    if module and file:
        message = "Name a module or a file, not both."
        raise click.UsageError(message)
    ctx.obj = where = Where(module, file, chosen, workspace_dir)
    ctx.call_on_close(where.configured.close)


for command in (packages, loads, leases, cursors_group, snapshots):
    main.add_command(command)
