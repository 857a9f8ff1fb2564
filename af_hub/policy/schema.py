"""The JSON schema of ``facility.yaml`` (draft 2020-12), with which editors complete keys and mark mistakes.

It is made from the model and knows no more than that: names that must be names of something else are checked by ``af-hub check policy``.
"""

import json

from af_hub.policy.model import Policy

TITLE = "facility.yaml of AF Hub"


def schema() -> str:
    """As text, for a file."""
    made = Policy.model_json_schema(mode="validation")
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": TITLE}, indent=1) + "\n"
    )
