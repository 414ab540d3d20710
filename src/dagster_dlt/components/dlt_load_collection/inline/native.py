"""Jinja templates whose values stay as they are: a password that looks like a number is a text."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.meta import find_undeclared_variables
from jinja2.nativetypes import NativeEnvironment, NativeTemplate

#: What rendering fails with where something is asked for that there is not.
NOT_SET: Final = UndefinedError


class NotSet(StrictUndefined):
    """A variable that is not set: `or` and `default()` give another value, all else fails."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override] # as that of `Undefined`
        """Say no, which is what `or` asks for."""
        return False


def rendered(text: str, scope: Mapping[str, Any]) -> object:
    """Return what a template says: the value of its one expression, or else a text.

    Raises:
        UndefinedError: it uses something that there is not.
    """
    value: object = _Native(undefined=StrictUndefined).from_string(text).render(**scope)
    if isinstance(value, Undefined):
        str(value)  # fails
    return value


def asks_for(name: str, text: str) -> bool:
    """Tell whether a template asks for something of this name."""
    try:
        return name in find_undeclared_variables(_Native().parse(text))
    except TemplateSyntaxError:
        return False  # whoever renders it says what is wrong


def _joined(parts: Iterator[object]) -> object:
    found = list(parts)
    return found[0] if len(found) == 1 else "".join(map(str, found))


class _Native(NativeEnvironment):
    concat: Callable[[Iterator[object]], object] = staticmethod(_joined)  # type: ignore[assignment] # as in Jinja


class _NativeTemplate(NativeTemplate):
    environment_class = _Native


_Native.template_class = _NativeTemplate
