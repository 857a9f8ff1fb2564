"""From a choice to a pod that is not made yet: checked, its image proven, its parts put together.

Promises: the image is the one that the registry shows at that moment, by its digest; no secret stands in the pod; nothing is made in the
cluster. So it serves the hub, which makes the pod, and ``af-hub session``, which prints it.
"""

import asyncio
import json
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import ApiException, V1Pod

from af_hub.errors import ImageRefused
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.refusals import image_refused
from af_hub.policy.sessions import Size
from af_hub.registry.proof import ImageProof
from af_hub.registry.prover import Prover
from af_hub.session.folders import safe_name
from af_hub.session.machine import WhatIsFree
from af_hub.session.options import Reason, SessionOptions
from af_hub.session.xrootd import CACHE
from af_hub.spawning.manifest import lay_over
from af_hub.spawning.pod import (
    CONFIG_FILE,
    FOLDER,
    HUB_TOKEN,
    SIGNPOST_PORT,
    PodUser,
    SessionPod,
    literal,
    secret_manifest,
    user_of,
)
from af_hub.spawning.quota import read_quotas
from af_hub.spawning.sentences import Chosen, Step
from af_hub.spawning.settings import PodSpawner
from af_hub.spawning.steady import NO_CONNECTION

FREE_SECONDS = 2.0
"""For which the spawn page waits for the quotas."""

AGENT_SECONDS = 30
"""For which the agent may start, beside the wait for the first token."""


class PreparingSpawner(PodSpawner):
    """Decides what the pod of this start will be."""

    _session: SessionPod | None = None
    _options: SessionOptions | None = None
    _user: PodUser = PodUser()
    _agent_config: dict[str, Any] | None = None
    _chosen = Chosen("")
    _remarks: tuple[str, ...] = ()
    _doing = Step(2, "Your choice is looked at.")

    async def _free(self) -> WhatIsFree:
        """What the namespace's quotas leave; nothing is said when they cannot be seen."""
        try:
            found = await asyncio.wait_for(
                self.api.list_namespaced_resource_quota(self.namespace, _preload_content=False), FREE_SECONDS
            )
            return read_quotas((await found.json()).get("items", []) if found.status == HTTPStatus.OK else [])
        except (ApiException, ValueError, *NO_CONNECTION) as error:
            self.log.warning("what is free for sessions cannot be seen: %r", error)
            return read_quotas([])

    async def prepare(self, choice: object) -> SessionPod:
        """Check the choice, prove its image, and put together what its pod will be.

        Raises
        ------
        SessionRefused
            When there can be no such session.
        """
        self._doing = Step(2, "Your choice is looked at.")
        options, rights, policy = await self._checked(choice)
        if not self.agent_image:
            self._refuse(
                "The hub does not know the session agent's image (AFSpawner.agent_image).", Reason.FACILITY, 500
            )
        self._doing = Step(3, "The image's registry is asked about it.")
        proof = await self._prove(options, policy)
        self._take(options, proof)
        # Of the images in the list the administrators know it.
        self._remarks = () if options.image_name in policy.images else proof.remarks
        self._session, self._agent_config = self._session_pod(options, rights, policy)
        return self._session

    async def _prove(self, options: SessionOptions, policy: Policy) -> ImageProof:
        """What the registry says of the image.

        Raises
        ------
        SessionRefused
            When it cannot be had, or cannot be a session.
        """
        if not options.image.container:
            self._refuse(
                f"The image {options.image_name!r} has no `container` in facility.yaml, so it cannot run in a pod.",
                Reason.FACILITY,
                500,
            )
        prover: Prover = self.authenticator.prover
        try:
            return await prover.prove(options.image.container, platform_of(options.size), self.user.name)
        except ImageRefused as refusal:
            self._refuse(image_refused(policy, str(refusal), refusal.reason), refusal.reason)

    def _take(self, options: SessionOptions, proof: ImageProof) -> None:
        """Keep what was chosen, for the pod and for sentences about it."""
        self._options, self._user, self.image = options, user_of(proof.uid, proof.gid), proof.pinned
        self._chosen = Chosen(options.image.title or options.image_name, proof.size, options.size.memory)
        self.cpu_limit, self.mem_limit = options.size.cpus, options.size.memory
        self.cpu_guarantee = round(options.size.cpus * self.guaranteed_share, 3)
        self.mem_guarantee = options.size.memory

    def _session_pod(
        self, options: SessionOptions, rights: Rights, policy: Policy
    ) -> tuple[SessionPod, dict[str, Any]]:
        """Our part of the pod, and what its agent is told beside its hub token."""
        fragment = self.describe(options, rights, policy, FOLDER)
        home = f"/home/{safe_name(self.user.name)}"
        session = SessionPod(
            fragment=fragment,
            secret=f"{self.pod_name}-{secrets.token_hex(3)}",
            home=home,
            home_volume=self._expand_all(self.home_volume) or {"persistentVolumeClaim": {"claimName": self.pvc_name}},
            home_sub_path=self._expand_all(self.home_sub_path),
            agent_image=self.agent_image,
            agent_resources=self.agent_resources,
            pull_policy=self.image_pull_policy or "IfNotPresent",
            start_seconds=round(self.first_token_timeout) + AGENT_SECONDS,
            fills_home=bool(self.welcome),
        )
        config = {
            **self._tell_agent(fragment, FOLDER, rights, policy),
            "signpost_port": SIGNPOST_PORT if CACHE in fragment.environment else 0,
            "files": dict(fragment.files),
            "home": home,
            "home_files": self._home_files(),
            "first_token": self.first_token_timeout,
        }
        return session, config

    def _home_files(self) -> dict[str, str]:
        """The notebook for a new home; a session does without when it cannot be read."""
        try:
            return {Path(self.welcome).name: Path(self.welcome).read_text()} if self.welcome else {}
        except OSError as error:
            self.log.error("new homes stay empty (ChoosingSpawner.welcome %s): %s", self.welcome, error)
            return {}

    def get_env(self) -> dict[str, Any]:
        """The user's container's environment; the administrator's ``environment`` has the last word, and no secret is in it."""
        assert self._session is not None
        hubs_own = {
            name: literal(value) if isinstance(value, str) and name not in self.environment else value
            for name, value in super().get_env().items()
        }
        person = dict.fromkeys(("USER", "LOGNAME"), literal(self.user.name))
        ours = self._session.environment
        return {**person, **ours, **hubs_own, "JUPYTERHUB_API_TOKEN": ours["JUPYTERHUB_API_TOKEN"]}

    async def get_pod_manifest(self) -> V1Pod:
        """KubeSpawner's pod with our part laid over it."""
        assert self._session is not None and self._options is not None
        return lay_over(await super().get_pod_manifest(), self._session, self._options, self._user)

    def describe_secret(self, *, pod_uid: str, server_token: str, agent_token: str) -> dict[str, Any]:
        """The Secret of this pod, with these hub tokens in it."""
        assert self._session is not None and self._agent_config is not None
        hub_api_url = super().get_env()["JUPYTERHUB_API_URL"]
        config = {**self._agent_config, "hub_api_url": hub_api_url, "hub_token": agent_token}
        data = {HUB_TOKEN: server_token, CONFIG_FILE: json.dumps(config)}
        labels = self._build_common_labels({"component": self.component_label})
        return secret_manifest(
            name=self._session.secret, pod_name=self.pod_name, pod_uid=pod_uid, labels=labels, data=data
        )


def platform_of(size: Size) -> str:
    """What the image must be for: the processor of the nodes that the size is for, where it says one; empty for the hub's own."""
    processor = size.node_selector.get("kubernetes.io/arch")
    return f"linux/{processor}" if processor else ""
