"""What a session would get, put together without a hub: for ``af-hub session``, and for whoever compares it with one that runs.

Promises: the very code that starts sessions says it; secrets are words. It asks the image's registry, and nobody else but for
:func:`running_pod`.
"""

import asyncio
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.spawner import Spawner
from kubernetes_asyncio.config import ConfigException
from traitlets.config import Config

from af_hub.errors import AFError, Unavailable
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.registry.prover import Prover
from af_hub.spawning.choosing import ChoosingSpawner, SessionRefused
from af_hub.spawning.difference import differences
from af_hub.spawning.local import LocalAFSpawner

SERVER_TOKEN, AGENT_TOKEN = "(the server's hub token)", "(the agent's hub token)"  # noqa: S105
ANSWER_SECONDS = 20
NOT_YET = {"proto": "http", "ip": "", "port": 0, "cookie_name": ""}
NO_FOLDER = Path("/(the session's folder)")


@dataclass
class Preview:
    """Objects of Kubernetes by what they are, the environment where there is no pod, and files by their place."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Person:
    """Whose session it would be: the part of the authenticator that a spawner asks."""

    rights: Rights
    policy: Policy

    async def rights_of(self, _user: object) -> tuple[Rights, Policy]:
        """What this person may do."""
        return self.rights, self.policy

    @cached_property
    def prover(self) -> Prover:
        """What is known of images, for this session alone."""
        return Prover(lambda: self.policy)


def read_config(path: Path | None) -> Config:
    """The hub's configuration from its file, as ``jupyterhub --config`` reads it; an empty one without.

    Raises
    ------
    Unavailable
        When it cannot be read here; such as for an environment variable that the hub has and we do not.
    """
    if path is None:
        return Config()
    app = JupyterHub()
    try:
        app.load_config_file(str(path))
    except (Exception, SystemExit) as error:
        raise Unavailable(
            f"{path} cannot be read here ({type(error).__name__}: {error}). Run this where the hub runs, with the hub's environment."
        ) from error
    found: Config = app.config
    return found


def find_class(config: Config, name: str) -> type[ChoosingSpawner]:
    """The spawner that the configuration has; ``name`` where it has none.

    Raises
    ------
    Unavailable
        When it is none of ours.
    """
    found = config.JupyterHub.get("spawner_class", name)
    if isinstance(found, str):
        module, _, attribute = found.rpartition(".")
        found = getattr(importlib.import_module(module), attribute, None) if module else None
    if not (isinstance(found, type) and issubclass(found, ChoosingSpawner)):
        raise Unavailable(f"the hub's spawner is {found}; wanted af_hub.spawner.AFSpawner or LocalAFSpawner")
    return found


def make_spawner(
    kind: type[ChoosingSpawner], config: Config, person: Person, username: str, server: str, hub_url: str
) -> Any:
    """A spawner without a hub; it needs a running event loop.

    Raises
    ------
    Unavailable
        When sessions are pods, and nothing here says of which cluster.
    """
    configured = str(config.JupyterHub.get("public_url", ""))
    public = configured or hub_url
    host = "{0.scheme}://{0.netloc}".format(urlsplit(configured)) if configured else ""
    base = f"/user/{username}/{f'{server}/' if server else ''}"
    hub = SimpleNamespace(
        public_host=host, url=f"{hub_url}hub/", base_url="/hub/", api_url=f"{hub_url}hub/api", server=None
    )
    user = SimpleNamespace(name=username, id=0, url=f"/user/{username}/", escaped_name=username)
    orm_spawner = SimpleNamespace(name=server, server=orm.Server(base_url=base, **NOT_YET), state={}, user_options={})
    assert issubclass(kind, Spawner)
    try:
        return kind(
            config=config,
            user=user,
            hub=hub,
            orm_spawner=orm_spawner,
            authenticator=person,
            api_token=SERVER_TOKEN,
            public_hub_url=f"{public}hub/",
            public_url=f"{configured}{base[1:]}" if configured else "",
            oauth_client_id=f"jupyterhub-user-{username}" + (f"-{server}" if server else ""),
        )
    except ConfigException as error:
        raise Unavailable(
            f"nothing here says where the cluster is ({error}). Run this in the hub's pod, or let KUBECONFIG name a file that does."
        ) from error


async def preview(spawner: Any, choice: Mapping[str, str]) -> Preview:
    """What this choice would start.

    Raises
    ------
    AFError
        When there can be no such session; with the sentence that the person would read.
    """
    try:
        if isinstance(spawner, LocalAFSpawner):
            return await _of_process(spawner, choice)
        return await _of_pod(spawner, choice)
    except SessionRefused as refusal:
        raise AFError(str(refusal.message)) from refusal


async def _of_pod(spawner: Any, choice: Mapping[str, str]) -> Preview:
    session = await spawner.prepare(choice)
    pod = spawner.api.api_client.sanitize_for_serialization(await spawner.get_pod_manifest())
    secret = spawner.describe_secret(pod_uid="(the pod's)", server_token=SERVER_TOKEN, agent_token=AGENT_TOKEN)
    folder = json.loads(secret["stringData"]["agent.json"])["folder"]
    objects = {"Pod": pod, "Secret": secret}
    if spawner.storage_pvc_ensure:
        claim = spawner.api.api_client.sanitize_for_serialization(spawner.get_pvc_manifest())
        objects["PersistentVolumeClaim, made at the first start"] = claim
    return Preview(objects, files={f"{folder}/{name}": text for name, text in session.fragment.files.items()})


async def _of_process(spawner: LocalAFSpawner, choice: Mapping[str, str]) -> Preview:
    environment, files = await spawner.describe_environment(choice, NO_FOLDER)
    return Preview(environment=environment, files={f"{NO_FOLDER}/{name}": text for name, text in files.items()})


async def against_running(spawner: Any, made: Preview) -> list[str]:
    """In what the pod that runs differs from the one that would be made.

    Raises
    ------
    Unavailable
        When there is none, or the cluster does not say.
    """
    if "Pod" not in made.objects:
        raise Unavailable("sessions are processes here, not pods; there is nothing to compare")
    pod = made.objects["Pod"]
    name, namespace = pod["metadata"]["name"], spawner.namespace
    try:
        # Not by its name, for which the verb is get: the hub's own account lists, and so may ask this in the hub's pod.
        asked = spawner.api.list_namespaced_pod(
            namespace, field_selector=f"metadata.name={name}", _preload_content=False
        )
        found = await asyncio.wait_for(asked, ANSWER_SECONDS)
        answer = await found.json()
    except Exception as error:  # of Kubernetes' client, of its transport, or JSON
        raise Unavailable(f"the cluster does not say what the pod {namespace}/{name} is: {error}") from error
    if found.status != 200:
        raise Unavailable(
            f"the cluster does not show the pod {namespace}/{name}: {answer.get('message', found.status)}"
        )
    if not answer["items"]:
        raise Unavailable(f"there is no pod {namespace}/{name}: this session does not run")
    return differences({"metadata": pod["metadata"], "spec": pod["spec"]}, answer["items"][0])
