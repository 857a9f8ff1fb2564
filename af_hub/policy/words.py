"""What is wrong with a value of ``facility.yaml``, in words: what was found, what was wanted, what to change.

pydantic says where and of which kind; the sentences are ours. Nothing here decides what is right: :mod:`af_hub.policy.model` does.
"""

import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from af_hub.policy.forms import PATTERNS
from af_hub.policy.model import Policy
from af_hub.policy.text import Mistake, Place
from af_hub.policy.units import describe_seconds

SHOWN = 60

WANTED = {
    "string_type": "text; write `{found}` in quotes",
    "string_unicode": "text of real characters; take the escape out",
    "bool_type": "true or false; write one of them",
    "bool_parsing": "true or false; write one of them",
    "int_type": "a whole number; write one, as in `4`",
    "int_parsing": "a whole number; write one, as in `4`",
    "int_parsing_size": "a whole number of usual size; write a smaller one",
    "int_from_float": "a whole number; leave out what follows the point",
    "float_type": "a number; write one, as in `1.5`",
    "float_parsing": "a number; write one, as in `1.5`",
    "finite_number": "a number that is not endless; write one, as in `1.5`",
    "list_type": "a list; put it in brackets, as in `[one, two]`",
    "dict_type": "names, each with its own keys below it; write them, two spaces further in",
    "model_type": "keys and values; write them below this one, two spaces further in",
    "path_type": "a path; write one in quotes",
    "literal_error": "{expected}; write one of them",
    "datetime_type": "an instant; write it as in `2026-12-05T18:00:00+01:00`",
    "string_too_short": "a text; write one",
    "too_short": "at least {min_length}; write one",
    "greater_than": "more than {gt:g}; write a larger number",
    "greater_than_equal": "at least {ge:g}; write a larger number",
    "less_than_equal": "at most {le:g}; write a smaller number",
}


def describe_place(place: Place) -> str:
    """``rules[0].condor.account``."""
    words = ""
    for step in place:
        if isinstance(step, int):
            words += f"[{step}]"
        else:
            plain = step.isascii() and step.replace("_", "").replace("-", "").isalnum()
            words += f"{'.' if words else ''}{step if plain else ascii(step)}"
    return words or "the file"


def describe_found(found: object) -> str:
    """A value as a person would name it."""
    if isinstance(found, str):
        return ascii(found) if len(found) <= SHOWN else f"{found[:SHOWN]!a}..."
    if isinstance(found, dict):
        return "keys and values"
    if isinstance(found, list | tuple | set):
        return "a list" if found else "an empty list"
    if found is None:
        return "nothing"
    return str(found).lower() if isinstance(found, bool) else ascii(str(found))[1 : SHOWN + 1].removesuffix("'")


def describe_error(error: Mapping[str, Any]) -> Mistake:
    """One of pydantic's errors (``ValidationError.errors()``) as a mistake."""
    place: Place = tuple(step for step in error["loc"] if step != "[key]")
    kind, found, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "value_error":
        return Mistake(place, str(context["error"]))
    if kind == "missing":
        return Mistake(place, f"found nothing, wanted {_about(place)}; add `{place[-1]}: ...`")
    if kind == "extra_forbidden":
        return Mistake(place, _unknown_key(place))
    if kind == "string_pattern_mismatch":
        return Mistake(place, f"found {describe_found(found)}, wanted {PATTERNS[context['pattern']]}")
    if place == ("version",) and kind in ("greater_than_equal", "less_than_equal"):
        return Mistake(place, f"found {describe_found(found)}, wanted 1; this af_hub reads version 1 of the file")
    if kind == "less_than_equal" and place[-1] == "lifetime":
        most = describe_seconds(context["le"])
        return Mistake(
            place, f"found {describe_seconds(error['input'])}, wanted {most} at most; write it as in `{most}`"
        )
    if kind in WANTED:
        wanted = WANTED[kind].format(**{**context, "found": describe_found(found)})
        return Mistake(place, f"found {describe_found(found)}, wanted {wanted}")
    return Mistake(place, f"found {describe_found(found)}; {error['msg'][:200]}")


def _unknown_key(place: Place) -> str:
    known = list(keys_of(_part(place[:-1])))
    near = difflib.get_close_matches(str(place[-1]), known, 1)
    change = f"write `{near[0]}`" if near else "take it out"
    return f"found an unknown key, wanted one of {', '.join(known)}; {change}"


def _about(place: Place) -> str:
    """What the model says of the key at the end of ``place``."""
    field = keys_of(_part(place[:-1])).get(str(place[-1]))
    said = (field.description if field else "") or "a value"
    return said[0].lower() + said[1:].rstrip(".")


def _part(place: Place) -> type[BaseModel]:
    """The model of what stands at ``place``."""
    part: Any = Policy
    for step in place:
        model = _model(part)
        keys = keys_of(model) if model else {}
        part = keys[str(step)].annotation if step in keys else _inner(part)
    return _model(part) or Policy


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a part as they stand in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, itself or optionally."""
    if get_origin(annotation) in (Union, UnionType):
        return next((found for found in map(_model, get_args(annotation)) if found), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _inner(annotation: Any) -> Any:
    """What a list or a mapping holds."""
    return get_args(annotation)[-1] if get_args(annotation) else annotation
