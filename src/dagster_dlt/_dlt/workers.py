"""Workers of dlt's stages for one load.

dlt takes them from its configuration even where a stage is called with another number. So they are
put in front of it, for the context of one load only.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.provider import ConfigProvider
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from typing_extensions import override

_CHOSEN: Final[ContextVar[Mapping[str, int] | None]] = ContextVar("workers", default=None)
_REGISTERING: Final = threading.Lock()


class _ChosenWorkers(ConfigProvider):
    """Answers for `workers` of a stage where the load that asks has chosen them."""

    @override
    def get_value(
        self, key: str, hint: type[Any], pipeline_name: str | None, *sections: str
    ) -> tuple[Any, str]:
        chosen = _CHOSEN.get()
        stage = sections[-1] if sections else ""
        return (chosen or {}).get(stage) if key == "workers" else None, f"{stage}.{key}"

    @property
    @override
    def supports_secrets(self) -> bool:
        return False

    @property
    @override
    def supports_sections(self) -> bool:
        return True

    @property
    @override
    def name(self) -> str:
        return "Dagster run config"


@contextmanager
def with_workers(workers: Mapping[str, int]) -> Iterator[None]:
    """Let stages that are called in this block, and in its context, have these workers."""
    if not workers:
        yield
        return
    providers = Container()[PluggableRunContext].providers.providers
    with _REGISTERING:
        if not any(isinstance(each, _ChosenWorkers) for each in providers):
            providers.insert(0, _ChosenWorkers())
    token = _CHOSEN.set(workers)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
