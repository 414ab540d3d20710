"""dlt's configuration for one load: values of this process that no other load of it sees.

dlt asks its providers for a value in whatever thread needs it, and its providers are there for the
whole process. So one provider is put in front of them, which answers each load with its own values.
Whose code asks is told by its context. dlt's pools carry that along for the functions of resources
only: what else they run is told by the thread that has made the pool, or in a process by what dlt
hands over when it starts one.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from dlt.common.configuration.container import Container
from dlt.common.configuration.providers import ConfigProvider
from dlt.common.configuration.specs import ContainerInjectableContext, PluggableRunContext
from typing_extensions import override

#: Values by section and key, as a TOML file has them.
Values = Mapping[str, Any]

_CHOSEN: Final[ContextVar[Values | None]] = ContextVar("dagster_dlt_configuration", default=None)
_REGISTERING: Final = threading.Lock()


class _OfPools(ContainerInjectableContext):
    """The values of a load, for the pools that its thread makes."""

    can_create_default: ClassVar[bool] = False
    worker_affinity: ClassVar[bool] = True

    chosen: Values

    def __init__(self, chosen: Values) -> None:
        super().__init__()
        self.chosen = chosen

    @override
    def after_add(self) -> None:
        _register()  # in a process of a pool nobody else does


class _OfThisLoad(ConfigProvider):
    """Answers with the values of the load that asks."""

    @override
    def get_value(
        self, key: str, hint: type[Any], pipeline_name: str | None, *sections: str
    ) -> tuple[Any, str]:
        values, path = _values(), (*sections, key)
        # What is given for all pipelines too: dlt asks other providers for it much later.
        for each in ((pipeline_name, *path), path) if pipeline_name else (path,):
            found = _at(values, each)
            if found is not None:
                return found, ".".join(each)
        return None, ".".join(path)

    @property
    @override
    def supports_secrets(self) -> bool:
        return True

    @property
    @override
    def supports_sections(self) -> bool:
        return True

    @property
    @override
    def name(self) -> str:
        return "Dagster"


def _values() -> Values:
    chosen = _CHOSEN.get()
    if chosen is not None:
        return chosen
    container = Container()
    return container[_OfPools].chosen if _OfPools in container else {}


def _at(values: Values, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - what was configured
    found: Any = values
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def _register() -> None:
    providers = Container()[PluggableRunContext].providers.providers
    with _REGISTERING:
        if not any(isinstance(each, _OfThisLoad) for each in providers):
            providers.insert(0, _OfThisLoad())


@contextmanager
def configured(values: Values) -> Iterator[None]:
    """Put values in front of dlt's configuration, for what is called in this block.

    A block within another one has the values of both; its own come first.
    """
    if not values:
        yield
        return
    _register()
    token = _CHOSEN.set(_over(values, _CHOSEN.get() or {}))
    try:
        with seen_by_pools():
            yield
    finally:
        with suppress(ValueError):  # a generator may be closed in another context
            _CHOSEN.reset(token)


@contextmanager
def seen_by_pools() -> Iterator[None]:
    """Let pools that dlt makes in this block, in this thread, have the values of its context."""
    chosen = _CHOSEN.get()
    if not chosen:
        yield
        return
    with Container().injectable_context(_OfPools(chosen)):
        yield


def configured_alike(work: Callable[[], None]) -> Callable[[], None]:
    """Return `work` for another thread, where it has the values that it would have here."""
    chosen = _CHOSEN.get() or {}

    def alike() -> None:
        with configured(chosen):
            work()

    return alike


def with_workers(workers: Mapping[str, int]) -> AbstractContextManager[None]:
    """Let stages that are called in this block have these workers.

    dlt takes them from its configuration even where a stage is called with another number.
    """
    return configured({stage: {"workers": number} for stage, number in workers.items()})


def _over(values: Values, others: Values) -> dict[str, Any]:
    """Return the values of both; where both have one, the first one's."""
    found = dict(others)
    for name, value in values.items():
        below = found.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            found[name] = _over(value, below)
        else:
            found[name] = value
    return found
