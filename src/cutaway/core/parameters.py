"""Which parameters does a function take, and is this value allowed? One signature, one schema, every face.

The keyword-only parameters of a method or task (those after `*`) become one pydantic model. From it come
the JSON Schema (web form, documentation), the reading of command-line strings, and the check of values from
Python.
Limits: types are int, float, str, bool, None, Literal, and lists, tuples and unions of them, because each
must be writable on a command line and in a form. In Python a value must have the type itself (`top="3"` is
refused); strings are read only where strings are all there is, by `parse`.
"""

from __future__ import annotations

import inspect
import json
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from cutaway.core.errors import MethodError, ParameterError, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_PLAIN = (int, float, str, bool, type(None))
_PREFIX = "parameter_"  # pydantic reserves names such as `copy`; with a prefix every name is free


def names_of(function: Callable[..., Any]) -> list[str]:
    """The keyword-only parameters of `function`, in the order written."""
    return [p.name for p in _keyword_only(function)]


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that have a default, with it."""
    return {p.name: p.default for p in _keyword_only(function) if p.default is not inspect.Parameter.empty}


def chosen(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from the defaults."""
    defaults = defaults_of(function)
    return {name: value for name, value in values.items() if name not in defaults or defaults[name] != value}


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    """JSON Schema of the parameters."""
    schema = _model(function).model_json_schema(by_alias=True)
    return {**schema, "title": function.__name__}


def validate(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, defaults filled in, from values given in Python.

    Raises:
        ParameterError: a name that the function does not have, or a value that is not allowed.
    """
    annotations = _annotations(function)
    return _checked(function, {n: _plain(v, annotations.get(n)) for n, v in values.items()}, strict=True)


def parse(function: Callable[..., Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """All parameters, defaults filled in, from strings as they come from a command line.

    Lists are written `a,b,c` (commas inside brackets do not count) or as JSON; `none` is None where that is
    allowed.

    Raises:
        ParameterError: as `validate`.
    """
    annotations = _annotations(function)
    texts = {name.replace("-", "_"): text for name, text in texts.items()}
    values = {n: _from_text(t, annotations[n]) if n in annotations else t for n, t in texts.items()}
    return _checked(function, values, strict=False)


def to_text(value: Any) -> str:
    """A value as `parse` reads it: the inverse of reading."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return json.dumps(list(value), ensure_ascii=False)
        case _:
            return str(value)


def _keyword_only(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the keyword-only parameters alone: `Model` is often imported for type checkers only."""
    written = {p.name: p.annotation for p in _keyword_only(function)}
    for name, annotation in written.items():
        if annotation is inspect.Parameter.empty:
            raise MethodError(
                f"parameter {name!r} of {function.__name__!r} has no type;",
                "every parameter after `*` has one, so that a command line and a form can be made from it.",
                f"Write for example `{name}: int = 5`.",
            )
    holder = types.SimpleNamespace(__annotations__=written)
    return typing.get_type_hints(holder, globalns=function.__globals__, include_extras=True)


@lru_cache(maxsize=512)
def _model(function: Callable[..., Any]) -> type[BaseModel]:
    from pydantic import ConfigDict, Field, create_model  # 0.25 s: only when parameters are really looked at

    annotations, defaults = _annotations(function), defaults_of(function)
    fields: dict[str, Any] = {}
    for name, annotation in annotations.items():
        if not _permitted(annotation):
            raise MethodError(
                f"parameter {name!r} of {function.__name__!r} has the type {annotation};",
                "allowed are int, float, str, bool, Literal, and lists and optionals of them.",
                "Pass what is not a plain value in the task, or name it by a string.",
            )
        fields[_PREFIX + name] = (annotation, Field(defaults.get(name, ...), alias=name))
    config = ConfigDict(extra="forbid", validate_default=True, protected_namespaces=())
    return create_model(function.__name__, __config__=config, **fields)


def _permitted(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _permitted(arguments[0])
    if origin is Literal:
        return all(isinstance(a, _PLAIN) for a in arguments)
    if origin in (list, tuple, Sequence, Union, types.UnionType):
        return all(a is Ellipsis or _permitted(a) for a in arguments)
    return annotation in _PLAIN or annotation is None


def _plain(value: Any, annotation: Any = None) -> Any:
    """Numbers of numpy become Python's, and a list or tuple becomes the one that is asked for."""
    match value:
        case bool() | int() | float() | str():
            return value
        case tuple() | list():
            items = [_plain(item) for item in value]
            return tuple(items) if _wants_tuple(annotation) else items
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case _:
            return value


def _wants_tuple(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _wants_tuple(arguments[0])
    if origin in (Union, types.UnionType):
        return any(_wants_tuple(a) for a in arguments)
    return origin is tuple


def _from_text(text: str, annotation: Any) -> Any:
    """The value that a command-line string stands for; what cannot be read is left for the validation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _from_text(text, arguments[0])
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", "null"):
            return None
        return _from_text_of_union(text, [a for a in arguments if a is not type(None)])
    if origin in (list, tuple, Sequence):
        return _list_from_text(text, arguments[0] if arguments else str)
    if origin is Literal:
        return next((a for a in arguments if to_text(a) == text), text)
    return text


def _from_text_of_union(text: str, options: list[Any]) -> Any:
    if len(options) == 1:
        return _from_text(text, options[0])
    for option, read in ((int, int), (float, float)):  # `3` for `int | str` is the number
        if option in options:
            try:
                return read(text)
            except ValueError:
                continue
    lists = [o for o in options if typing.get_origin(o) in (list, tuple, Sequence)]
    return _from_text(text, lists[0]) if lists and ("," in text or text.startswith("[")) else text


def _list_from_text(text: str, item: Any) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return [_from_text(part, item) for part in _split(text)]


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside brackets: `z[1,2], q[3]` has two."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _checked(function: Callable[..., Any], values: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    from pydantic import ValidationError

    known = names_of(function)
    for name in values:
        if name not in known:
            raise _unknown(function, name, known)
    model = _model(function)
    try:
        checked = model.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        raise _refused(function, values, error, strict=strict) from None
    return {name: getattr(checked, _PREFIX + name) for name in known}


def _unknown(function: Callable[..., Any], name: str, known: list[str]) -> ParameterError:
    what = f"{function.__name__!r} has no parameter {name!r};"
    if not known:
        return ParameterError(what, "it takes none.")
    guess = nearest(name, known)
    return ParameterError(what, guess if guess.startswith("did") else "", f"Its parameters: {', '.join(known)}.")


def _refused(
    function: Callable[..., Any], values: Mapping[str, Any], error: ValidationError, *, strict: bool
) -> ParameterError:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        what = f"parameter {name!r} of {function.__name__!r} has no default and was not given;"
        return ParameterError(what, "it needs a value.", f"Write {name}=….")
    value = values.get(name, defaults_of(function).get(name))
    expected = _lowered(first["msg"].replace("Input should be", "it should be")) + "."
    if isinstance(value, str) and first["type"] == "literal_error":
        options = [str(o) for o in _literal_options(_annotations(function)[name])]
        guess = nearest(value, options)
        expected = f"{expected[:-1]}; {guess}" if guess.startswith("did") else expected
    shown = repr(value) if strict or not isinstance(value, str) else value or "empty"
    what = f"parameter {name!r} of {function.__name__!r} is {shown};"
    return ParameterError(what, expected, _example(function, name))


def _example(function: Callable[..., Any], name: str) -> str:
    defaults = defaults_of(function)
    return f"Write for example {name}={to_text(defaults[name])}." if name in defaults else f"Write {name}=…."


def _literal_options(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [option for part in typing.get_args(annotation) for option in _literal_options(part)]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
