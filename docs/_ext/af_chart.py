"""The reference of the chart's values, made of their schema and their defaults: the directive ``chart-reference``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from af_reference import Reference, table
from docutils import nodes
from sphinx.application import Sphinx

CHART = Path(__file__).resolve().parents[2] / "hub_config" / "kubernetes"
WANTED = {
    "string": "text",
    "integer": "a whole number",
    "boolean": "`true` or `false`",
    "object": "keys",
    "array": "a list",
}


class ChartReference(Reference):
    """Every value: what it is, what is wanted, and what holds when it is left out."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        """One section for each part of the values."""
        for name in ("values.schema.json", "values.yaml"):
            self.env.note_dependency(str(CHART / name))
        schema = json.loads((CHART / "values.schema.json").read_text())
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        return [self.section(title, body) for title, body in parts(schema, defaults)]


def parts(schema: dict[str, Any], defaults: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The values that stand alone first, then each part with its values."""
    single = {name: one for name, one in schema["properties"].items() if "properties" not in one}
    yield "Values of their own", table(HEAD, list(rows({"properties": single}, defaults)))
    for name, one in schema["properties"].items():
        if "properties" in one:
            yield f"`{name}`", f"{one['description']}\n\n{table(HEAD, list(rows(one, defaults.get(name), f'{name}.')))}"


HEAD = ("value", "what it is", "wanted", "default")


def rows(schema: dict[str, Any], defaults: Any, place: str = "") -> Iterator[tuple[str, ...]]:
    """A row for each value, and for those inside it."""
    for name, one in schema["properties"].items():
        default = (defaults or {}).get(name)
        inner = "properties" in one
        yield (
            f"`{place}{name}`",
            one["description"],
            "" if inner else wanted(one),
            "" if inner else said(name in (defaults or {}), default),
        )
        if inner:
            yield from rows(one, default, f"{place}{name}.")


def wanted(one: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "enum" in one:
        return ", ".join(f"`{each}`" for each in one["enum"])
    words = WANTED[one["type"]]
    if "minimum" in one:
        words += f", at least {one['minimum']}"
    return f"{words}, at most {one['maximum']}" if "maximum" in one else words


def said(there: bool, default: Any) -> str:
    """The default as YAML writes it."""
    if not there:
        return "must be given"
    return "" if default in ("", [], {}) else f"`{json.dumps(default, ensure_ascii=False)}`"


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_directive("chart-reference", ChartReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
