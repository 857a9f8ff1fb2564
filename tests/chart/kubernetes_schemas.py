"""What the API of a Kubernetes takes: its own OpenAPI file, of the Go module, as a JSON schema for the kinds that the chart makes.

Kept compressed in the user's cache; the file itself has four megabytes, and its module forty.
"""

import gzip
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from af_hub.errors import Unavailable
from af_hub.testing.debian import cache_folder, whole_folder
from af_hub.testing.kube_build import go_env, why_no_go

KINDS = (
    "ConfigMap",
    "Deployment",
    "Ingress",
    "Job",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
)
OPENAPI = "api/openapi-spec/swagger.json"
SECONDS = 600
FORM = "1"
"""Of what is kept; another one is made when this is."""

NUMBER_OR_TEXT = {"type": ["integer", "number", "string"]}
LOOSE = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": NUMBER_OR_TEXT,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": NUMBER_OR_TEXT,
}


def schema_of(version: str) -> dict[str, Any]:
    """Definitions of the kinds above and of all that is in them; ``kinds`` names the definition of each.

    Raises
    ------
    Unavailable
        When it is not in the cache and there is no Go to fetch it with.
    """
    folder = cache_folder() / "kube" / "openapi" / version
    with whole_folder(folder, FORM) as making:
        if making:
            kept = needed(json.loads(fetch(version)))
            (making / "schema.json.gz").write_bytes(gzip.compress(json.dumps(kept).encode()))
    return json.loads(gzip.decompress((folder / "schema.json.gz").read_bytes()))


def fetch(version: str) -> bytes:
    """The OpenAPI file of this version, out of its Go module; nothing else of the module is kept."""
    if reason := why_no_go():
        raise Unavailable(reason)
    with tempfile.TemporaryDirectory() as folder:
        env = {**go_env(), "GOMODCACHE": folder, "GOFLAGS": "-modcacherw", "HOME": os.environ.get("HOME", folder)}
        command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise Unavailable(f"the Go module of Kubernetes {version} could not be had:\n{done.stderr[-1000:]}")
        return (Path(json.loads(done.stdout)["Dir"]) / OPENAPI).read_bytes()


def needed(openapi: dict[str, Any]) -> dict[str, Any]:
    """The part of it that the chart needs, with every unknown key refused, as ``kubectl apply`` with strict validation does."""
    definitions = openapi["definitions"]
    kinds = {
        f"{kind['group']}/{kind['version']}".lstrip("/") + " " + kind["kind"]: name
        for name, definition in definitions.items()
        for kind in definition.get("x-kubernetes-group-version-kind", [])
        if kind["kind"] in KINDS
    }
    found: dict[str, Any] = {}
    waiting = list(kinds.values())
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = LOOSE.get(name) or closed(definitions[name])
            waiting += references(found[name])
    return {"definitions": found, "kinds": kinds}


def closed(definition: dict[str, Any]) -> dict[str, Any]:
    """Without its texts, and with no other keys than those it names."""
    kept = {key: value for key, value in definition.items() if not key.startswith("x-") and key != "description"}
    if "properties" in kept:
        kept["additionalProperties"] = False
        kept["properties"] = {
            name: {key: value for key, value in one.items() if key in ("$ref", "type", "items", "additionalProperties")}
            for name, one in kept["properties"].items()
        }
    return kept


def references(value: Any) -> Iterator[str]:
    """The definitions that are named in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner.rpartition("/")[2]
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@cache
def validator(version: str, kind: str) -> Draft202012Validator:
    """Of one kind, as ``apps/v1 Deployment``."""
    schema = schema_of(version)
    return Draft202012Validator(
        {"$ref": f"#/definitions/{schema['kinds'][kind]}", "definitions": schema["definitions"]}
    )


def mistakes(version: str, manifest: dict[str, Any]) -> list[str]:
    """What the API of this version would not take of it."""
    kind = f"{manifest['apiVersion']} {manifest['kind']}"
    return [
        f"{kind} {manifest['metadata']['name']}: {error.json_path}: {error.message[:200]}"
        for error in validator(version, kind).iter_errors(manifest)
    ]
