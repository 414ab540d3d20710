"""Where a command looks for pipelines, and in which words it fails."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import dagster as dg
from dlt.pipeline.pipeline import Pipeline
from typing_extensions import override

from dagster_dlt import _dagster, _dlt
from dagster_dlt.cli.code_location import CodeLocation, load_file, load_module
from dagster_dlt.cli.secrets import without_secrets
from dagster_dlt.errors import DagsterDltError, DestinationFailedError
from dagster_dlt.loading.site import Site, site_of


@dataclass
class Where:
    """Where the command looks for pipelines."""

    module: str | None = None
    file: Path | None = None
    chosen: str | None = None
    workspace_dir: Path | None = None
    #: The pipeline it is busy with.
    at: str = "?"
    #: What dlt is configured with for that one.
    configured: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def code_location(self) -> CodeLocation:
        """What the module or the file has."""
        if self.file is not None:
            return load_file(self.file)
        if self.module is not None:
            return load_module(self.module)
        message = "Name a code location: -m MODULE or -f FILE, before the command."
        raise click.UsageError(message)

    def sites(self) -> Iterator[Site]:
        """Yield the pipelines that are chosen: all, if none is."""
        for pipeline in self.code_location.pipelines(self.chosen):
            yield self._site(pipeline)

    def site(self) -> Site:
        """Return the one pipeline that is chosen, or the only one."""
        return self._site(self.code_location.pipeline(self.chosen))

    def _site(self, pipeline: Pipeline) -> Site:
        self.at = pipeline.pipeline_name
        # For the rest of the command, or until it turns to the next pipeline.
        self.configured.close()
        self.configured.enter_context(self.code_location.environment_of(pipeline).configured())
        set_there = self.code_location.workspace_dir
        base = self.workspace_dir or (Path(set_there) if set_there else None)
        return site_of(pipeline, _log(), base=base, is_over=_is_over)


def _is_over(run_id: str) -> bool:
    """Ask Dagster whether a run has ended, where there is an instance to ask."""
    if "DAGSTER_HOME" not in os.environ:
        return False
    with dg.DagsterInstance.get() as instance:
        return _dagster.is_over(instance, run_id)


class _ToStderr(logging.Handler):
    @override
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(without_secrets(record.getMessage()), err=True)


def _log() -> logging.Logger:
    log = logging.Logger("dagster-dlt", logging.INFO)  # noqa: LOG001 - not shared with anybody
    log.addHandler(_ToStderr())
    return log


class PlainErrors(click.Group):
    """A group that shows errors that are to be expected without a traceback, and no secrets."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, BrokenPipeError):
            raise
        except DagsterDltError as error:
            raise click.ClickException(without_secrets(str(error))) from error
        except Exception as error:
            if not _dlt.comes_from_outside(error):
                raise
            at = ctx.obj.at if isinstance(ctx.obj, Where) else "?"
            cause = without_secrets(_dlt.first_cause(error))
            raise DestinationFailedError(at, cause) from error
