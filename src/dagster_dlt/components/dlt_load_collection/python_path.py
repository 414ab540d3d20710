"""Objects by their Python path, as YAML names them. Imports user code; knows neither dlt nor us."""

import pkgutil
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

import dagster as dg

from dagster_dlt.errors import ObjectNotFoundError, nearest


def object_at(context: dg.ResolutionContext, attribute: str, path: str) -> object:
    """Return the object that `path` leads to.

    Args:
        context: Where the path was read; relative paths start at its component's folder.
        attribute: The YAML attribute that holds the path, for error texts.
        path: `package.module.name`, or `.module.name` relative to the component's folder.

    Raises:
        ObjectNotFoundError: there is no such module or name, or the module cannot be imported.
    """
    rest = path.lstrip(".")
    dots = path[: len(path) - len(rest)]
    module_path, _, name = rest.rpartition(".")
    if not name or not (dots or module_path):
        raise ObjectNotFoundError(attribute, path, "no module", "it names no module")
    package = _package(context, attribute, path) if dots else None
    try:
        module_name = resolve_name(dots + module_path, package)
    except ImportError as error:
        looked_in = f"the parents of {package}"
        raise ObjectNotFoundError(attribute, path, looked_in, "it has too many dots") from error
    module = _module(module_name, attribute, path)
    try:
        return getattr(module, name)
    except AttributeError:
        problem = f"module {module_name!r} has no {name!r}.{nearest(name, _names(module))}"
        raise ObjectNotFoundError(attribute, path, _place(module), problem.rstrip(".")) from None


def _package(context: dg.ResolutionContext, attribute: str, path: str) -> str:
    """Return the dotted name of the folder of the component that is being loaded."""
    for stashed in context.stash.values():
        if isinstance(stashed, dg.ComponentLoadContext):
            return stashed.defs_relative_module_name(stashed.path)
    problem = "a relative path needs a component's folder to start from"
    raise ObjectNotFoundError(attribute, path, "no folder", problem)


def _module(name: str, attribute: str, path: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise _no_module(missing, attribute, path) from None
        # The module is there, and something that it imports is not: the cause tells what.
        problem = f"module {name!r} cannot be imported ({error})"
        raise ObjectNotFoundError(attribute, path, "the Python path", problem) from error


def _no_module(name: str, attribute: str, path: str) -> ObjectNotFoundError:
    parent_name, _, child = name.rpartition(".")
    if not parent_name:
        return ObjectNotFoundError(
            attribute, path, "the Python path", f"there is no module {name!r}"
        )
    parent = import_module(parent_name)
    modules = [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]
    problem = f"there is no module {name!r}.{nearest(child, modules)}"
    return ObjectNotFoundError(attribute, path, _place(parent), problem.rstrip("."))


def _names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _place(module: ModuleType) -> str:
    if module.__file__ and Path(module.__file__).name != "__init__.py":
        return module.__file__
    return next(iter(getattr(module, "__path__", [])), module.__name__)
