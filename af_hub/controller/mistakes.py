"""What is wrong with a request, in a sentence: where, what was found, what was wanted.

Pure. Serves :mod:`af_hub.controller.problems`, in the place of the wording of pydantic (its page "Validation Errors" has the types).
Texts that were sent are told by their length only: one may be a key that went into the wrong field.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from af_hub.policy.units import MEBIBYTE

CLUSTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$"
IN_WORDS = {CLUSTER_NAME: "a letter or digit, then at most 62 letters, digits, spaces, dots, dashes and underscores"}

WANTED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda limit: "a value; put one there",
    "extra_forbidden": lambda limit: "no such name; leave it out",
    "int_type": lambda limit: "a whole number",
    "int_parsing": lambda limit: "a whole number",
    "string_type": lambda limit: "a text",
    "bool_type": lambda limit: "true or false",
    "greater_than_equal": lambda limit: f"at least {_limit(limit['ge'])}",
    "less_than_equal": lambda limit: f"at most {_limit(limit['le'])}",
    "string_too_long": lambda limit: f"at most {limit['max_length']} characters",
    "string_pattern_mismatch": lambda limit: IN_WORDS.get(limit["pattern"], f"a text of the form {limit['pattern']}"),
    "json_invalid": lambda limit: "JSON",
    "model_type": lambda limit: "a JSON object",
    "model_attributes_type": lambda limit: "a JSON object with Content-Type: application/json",
}
SHORT = 20


def sentence(mistakes: Sequence[Mapping[str, Any]]) -> str:
    """All mistakes of one request, as pydantic lists them."""
    return "; ".join(map(_sentence, mistakes))


def _sentence(mistake: Mapping[str, Any]) -> str:
    kind = mistake["type"]
    place = ".".join(str(step) for step in mistake["loc"][1:]) if kind != "json_invalid" else ""
    wanted = WANTED[kind](mistake.get("ctx", {})) if kind in WANTED else "something else"
    return f"{place[:64] or 'the body'}: found {_found(kind, mistake.get('input'))}, wanted {wanted}"


def _limit(number: int) -> str:
    """Large ones are bytes."""
    return f"{number} ({number // MEBIBYTE} MiB)" if number >= MEBIBYTE else str(number)


def _found(kind: str, value: object) -> str:
    match value:
        case _ if kind == "missing":
            return "nothing"
        case _ if kind == "json_invalid":
            return "something else"
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int() | float():
            text = str(value)
            return text if len(text) <= SHORT else "a very long number"
        case str() | bytes():
            return f"a text of {len(value)} character{'s' if len(value) != 1 else ''}"
        case list():
            return "a list"
        case _:
            return "an object"
