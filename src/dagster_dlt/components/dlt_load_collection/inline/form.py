"""A block of YAML: what the parts of an inline source and pipeline have in common."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

import dagster as dg
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dagster_dlt.errors import InvalidLoadError, listed, nearest

F = TypeVar("F", bound=BaseModel)


class Problem(ValueError):  # noqa: N818 - a part of a sentence, which an error of ours completes
    """What is wrong with a block, in words that follow its name."""


class Form(dg.Model):
    """A block of YAML. A field that it does not have is refused with the nearest one that it has.

    What `dg` is told of its fields also allows a template, a text, wherever one can stand, and
    fields that it does not have: `dg` would only say that the whole list of loads is wrong.
    """

    model_config = ConfigDict(populate_by_name=True)

    #: The field that a text stands for, where one may be written instead of the block.
    short_for: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_fields(cls, given: object) -> object:
        if isinstance(given, str) and cls.short_for:
            return {cls.short_for: given}
        if isinstance(given, Mapping):
            refuse_unknown(given, field_names(cls))
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return _lenient(handler(core_schema), handler)


class DescribedBy:
    """Tells `dg` that a mapping has the fields of a form; what checks it is `checked`."""

    def __init__(self, form: type[BaseModel]) -> None:
        self._form = form

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the form."""
        del core_schema
        return _lenient(handler(self._form.__pydantic_core_schema__), handler)


def checked(form: type[F], given: object, load: str, field: str) -> F:
    """Return `given` as a form.

    Args:
        form: What it has to be.
        given: What the YAML says, with values in the place of its templates.
        load: The load, for the error.
        field: Where it stands, for the error.

    Raises:
        InvalidLoadError: a field is unknown, missing or wrong; the first one is named.
    """
    try:
        return form.model_validate(given)
    except ValidationError as error:
        raise refusal(error, given, load, field) from None


def refusal(error: ValidationError, given: object, load: str, field: str) -> InvalidLoadError:
    """Return an error that names the first field that is wrong."""
    first = error.errors(include_url=False)[0]
    return InvalidLoadError(load, _path(field, first["loc"], given), _problem(first))


def refuse_unknown(given: Mapping[Any, Any], known: list[str], inside: str = "") -> None:
    """Refuse a key that is not known.

    Raises:
        Problem: names the first one, and the nearest known one.
    """
    for key in given:
        if key not in known:
            place = f" in {inside}" if inside else ""
            hint = nearest(str(key), known) or f" It takes {listed(known)}."
            message = f"has the unknown field {str(key)!r}{place}.{hint}"
            raise Problem(message)


def require(package: str, install: str) -> None:
    """Refuse a field that needs a package which is not there.

    Args:
        package: What is imported.
        install: What to give to pip.

    Raises:
        Problem: says what to install.
    """
    if find_spec(package) is None:
        message = f"needs the package {package}. Install it: pip install '{install}'"
        raise Problem(message)


def field_names(form: type[BaseModel]) -> list[str]:
    """Return the names of a form's fields as YAML writes them."""
    return [field.alias or name for name, field in form.model_fields.items()]


def _path(field: str, steps: tuple[int | str, ...], given: Any) -> str:  # noqa: ANN401 - YAML
    """Return where the error is, without the steps that pydantic adds for the arms of unions."""
    for number, step in enumerate(steps, start=1):
        if isinstance(given, Mapping) and (step in given or number == len(steps)):
            field, given = f"{field}.{step}", given.get(step)
        elif isinstance(given, list) and isinstance(step, int):
            field, given = f"{field}[{step}]", given[step] if step < len(given) else None
    return field


def _problem(error: Any) -> str:  # noqa: ANN401 - a TypedDict of pydantic_core
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return "is missing"
    said = str(error["msg"])
    # Without the value: while a run is executed it may be a secret.
    return f"has a wrong value: {said[:1].lower()}{said[1:]}"


def _lenient(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    block = handler.resolve_ref_schema(schema)
    for strict in ("additionalProperties", "required"):
        block.pop(strict, None)
    fields = block.get("properties", {})
    block["properties"] = {name: _or_text(field) for name, field in fields.items()}
    return schema


def _or_text(schema: Any) -> Any:  # noqa: ANN401 - JSON schema
    told = {key: value for key, value in schema.items() if key in _TOLD}
    bare = {key: value for key, value in schema.items() if key not in _TOLD}
    if not bare:
        return schema  # anything goes
    arms = [_with_texts(arm) for arm in bare.pop("anyOf", [])]
    found = [*arms, *([_with_texts(bare)] if bare else []), {"type": "string"}]
    return {"anyOf": [arm for n, arm in enumerate(found) if arm not in found[:n]], **told}


def _with_texts(schema: Any) -> Any:  # noqa: ANN401 - JSON schema
    return {**schema, "items": _or_text(schema["items"])} if "items" in schema else schema


#: What a schema says to people.
_TOLD = frozenset({"title", "description", "default", "examples"})
