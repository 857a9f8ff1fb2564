"""The Secret itself, read and completed through the cluster's API; runs in the cluster, before the facility's pods do.

Serves the chart's Job. Promises: asks for nothing but ``get`` and ``patch`` of the one Secret, and ``create``; two at once do not write
over each other; no content is printed, logged or part of an error.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes_asyncio import client, config

from af_hub.errors import Unavailable
from af_hub.keychain.kinds import numbered, renewed

NUMBERS = "af-hub.org/generations"
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SECONDS = 10
TRIES = 5


async def complete(api: client.CoreV1Api, namespace: str, name: str, wanted: Mapping[str, int], kept: int) -> list[str]:
    """Make what is missing; hands back which kinds were written.

    Raises
    ------
    Unavailable
        When the API does not let us, or others write all the time.
    """
    for _ in range(TRIES):
        try:
            return await _once(api, namespace, name, wanted, kept)
        except client.ApiException as error:
            if error.status != 409:  # somebody else was quicker
                raise Unavailable(
                    f"the Secret {namespace}/{name} cannot be completed: the API answers {error.status} {error.reason}"
                ) from None  # the exception holds what was sent
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"the cluster's API does not answer: {type(error).__name__}") from None
    raise Unavailable(f"the Secret {namespace}/{name} is written by others all the time")


async def _once(api: client.CoreV1Api, namespace: str, name: str, wanted: Mapping[str, int], kept: int) -> list[str]:
    found = await _read(api, namespace, name)
    metadata = found.metadata if found else None
    files = {file: base64.b64decode(text).decode() for file, text in ((found and found.data) or {}).items()}
    numbers = json.loads(((metadata and metadata.annotations) or {}).get(NUMBERS, "{}"))
    written = renewed(files, numbers, wanted, kept)
    after = numbered(numbers, wanted)
    if not written and after == numbers:
        return []
    about = client.V1ObjectMeta(
        name=name,
        labels={"app.kubernetes.io/part-of": "af-hub"},
        annotations={NUMBERS: json.dumps(after)},
        resource_version=metadata and metadata.resource_version,
    )
    content = {file: base64.b64encode(text.encode()).decode() for one in written.values() for file, text in one.items()}
    body = client.V1Secret(metadata=about, data=content)
    if metadata is None:
        await api.create_namespaced_secret(namespace, body, _request_timeout=SECONDS)
    else:
        await api.patch_namespaced_secret(name, namespace, body, _request_timeout=SECONDS)
    return list(written)


async def _read(api: client.CoreV1Api, namespace: str, name: str) -> Any:
    try:
        return await api.read_namespaced_secret(name, namespace, _request_timeout=SECONDS)
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise


def run(name: str, wanted: Mapping[str, int], kept: int) -> list[str]:
    """Complete the Secret of this pod's namespace, with this pod's rights; hands back which kinds were written."""
    config.load_incluster_config()  # type: ignore[no-untyped-call]
    return asyncio.run(_run(NAMESPACE.read_text().strip(), name, wanted, kept))


async def _run(namespace: str, name: str, wanted: Mapping[str, int], kept: int) -> list[str]:
    async with client.ApiClient() as api:
        return await complete(client.CoreV1Api(api), namespace, name, wanted, kept)
