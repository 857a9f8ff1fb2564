"""The chart's values have a schema that tells each of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from af_hub.testing.places import CONFIGURATION

CHART = CONFIGURATION / "kubernetes"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())


def objects(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{place}.{name}".lstrip("."))


def test_every_value_is_told_and_no_other_is_taken(schema: dict[str, Any]) -> None:
    Draft7Validator.check_schema(schema)
    assert [place for place, one in objects(schema) if not one["description"].endswith(".")] == []
    assert [place for place, one in objects(schema) if "properties" in one and one["additionalProperties"]] == []


def test_every_value_has_a_default_but_those_that_nobody_can_know(schema: dict[str, Any]) -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def without_default(schema: dict[str, Any], values: Any, place: str = "") -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            if name not in values:
                yield f"{place}.{name}".lstrip(".")
            elif "properties" in inner:
                yield from without_default(inner, values[name], f"{place}.{name}")

    asked = {"publicURL", "iam.clientID", "iam.clientSecret.name"}
    assert set(without_default(schema, defaults)) == asked
    wrong = [error.message for error in Draft7Validator(schema).iter_errors(defaults)]
    assert len(wrong) == len(asked) and all("is a required property" in one for one in wrong)


# Links to the files, not to their folder: what makes the wheel follows a folder once, wherever it meets it first.
PAGES = [f"templates/{path.name}" for path in sorted((CONFIGURATION / "templates").iterdir())]


@pytest.mark.parametrize("name", ["jupyterhub_config.py", "facility.yaml", *PAGES])
def test_the_chart_links_to_the_one_copy(name: str) -> None:
    link = CHART / "files" / name
    assert link.resolve() == (CONFIGURATION / name).resolve()
