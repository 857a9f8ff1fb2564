"""Sessions as pods, each with its session agent beside the user's container; the hop from the hub to Kubernetes.

KubeSpawner does what it can do: names, homes, watching the pods, removing them. Ours are the choice (instead of profiles, which would go
round the policy), what stands in a pod (:mod:`af_hub.spawning.pod`), its Secret, and every sentence. Promises: the image that starts is the
one that was checked; no secret stands in a pod; what can only fail ends at once, and leaves nothing.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from weakref import WeakKeyDictionary

from jupyterhub import orm
from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client import ApiException, V1Container, V1Pod, V1Toleration, V1Volume, V1VolumeMount
from kubespawner.clients import shared_client
from kubespawner.utils import get_k8s_model
from traitlets import Dict, Float, TraitError, Unicode, default, validate

from af_hub.errors import AFError, ImageRefused
from af_hub.policy.decide import Rights
from af_hub.policy.jobs import token_pools
from af_hub.policy.model import Policy, Size
from af_hub.policy.refusals import image_refused
from af_hub.registry.proof import ImageProof
from af_hub.registry.prover import Prover
from af_hub.session.cvmfs import read_repositories
from af_hub.session.folders import safe_name
from af_hub.session.machine import WhatIsFree
from af_hub.session.options import Reason, SessionOptions
from af_hub.session.xrootd import CACHE
from af_hub.spawning import progress, verbs
from af_hub.spawning.answers import AWAY, read_answer
from af_hub.spawning.choosing import ChoosingSpawner, SessionRefused
from af_hub.spawning.pod import (
    CONFIG_FILE,
    FOLDER,
    HUB_TOKEN,
    NOTEBOOK,
    RESTRICTED,
    RESTRICTED_POD,
    SIGNPOST_PORT,
    PodUser,
    SessionPod,
    literal,
    secret_manifest,
    user_of,
    with_resources,
)
from af_hub.spawning.progress import Chosen, Ended, Step
from af_hub.spawning.quota import read_quotas
from af_hub.spawning.steady import NO_CONNECTION, SteadyKubeSpawner, comes_back
from af_hub.spawning.waiting import comes_up

SERVER_SCOPES = ["users:activity!user", "access:servers!server", "access:services!service=af-controller"]
AGENT_SCOPES = ["custom:af-token:read", "custom:af-token:pool", "access:services!service=af-controller"]
"""What the two hub tokens of a session may do: its server's, and its agent's."""

LOOK_SECONDS = 0.2
"""How often a pod that starts is looked at; what KubeSpawner's watch brought is in memory."""

PROGRESS_SECONDS = 1.0
ADOPT_SECONDS = 60.0
"""For which a new hub waits for a session that the one before it had begun to start."""

FREE_SECONDS = 2.0
"""For which the spawn page waits for the quotas."""

AGENT_SECONDS = 30
"""For which the agent may start, beside the wait for the first token."""


class AFSpawner(ChoosingSpawner, SteadyKubeSpawner):
    """Sessions as pods of Kubernetes, with the image's own user, without any right in the cluster.

    All that KubeSpawner can be told still holds, but for ``image``, ``profile_list``, ``uid``, ``gid``, the limits and guarantees: those
    the policy and the image decide.
    """

    agent_image = Unicode(
        help="""
        The image of the session agent, which runs beside the user's server in each pod; of the same version as the hub.

        When unset, the environment variable ``AF_AGENT_IMAGE``; without either no session starts.

        Example::

            c.AFSpawner.agent_image = "registry.example.org/af-hub/agent:1"
        """
    ).tag(config=True)

    @default("agent_image")
    def _agent_image(self) -> str:
        return os.environ.get("AF_AGENT_IMAGE", "")

    agent_resources = Dict(
        {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        help="""
        What the session agent of each pod asks for and may take, as Kubernetes writes it. It comes on top of the size that people choose.

        Example::

            c.AFSpawner.agent_resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
        """,
    ).tag(config=True)

    guaranteed_cores = Float(
        1.0,
        help="""
        The part of a size's cores that is kept for its session. With 1 nobody waits for somebody else's computation; with less, more sessions
        fit on a node, and share the cores that others do not use. Memory is always kept whole, as a session cannot give it back.

        Example::

            c.AFSpawner.guaranteed_cores = 0.25
        """,
    ).tag(config=True)

    home_volume = Dict(
        help="""
        The volume that holds homes, as a pod's ``volumes`` has it, without a name; KubeSpawner's templates (``{username}``) are filled in.

        When unset, each person has a claim of their own (``pvc_name_template``), which the hub makes at the first start
        (``storage_pvc_ensure``, ``storage_capacity``, ``storage_class``, ``storage_access_modes``) and never removes.

        Example::

            c.AFSpawner.home_volume = {"nfs": {"server": "nfs.example.org", "path": "/homes"}}
            c.AFSpawner.home_sub_path = "{username}"
        """
    ).tag(config=True)

    home_sub_path = Unicode(
        help="""
        The folder of the home volume that is a person's home; KubeSpawner's templates (``{username}``) are filled in.

        When unset, the whole volume.

        Example::

            c.AFSpawner.home_sub_path = "{username}"
        """
    ).tag(config=True)

    takes_own_images = has_volumes = True

    _provers: ClassVar[WeakKeyDictionary[Any, Prover]] = WeakKeyDictionary()
    _roles_seen: ClassVar[set[str]] = set()
    _session: SessionPod | None = None
    _options: SessionOptions | None = None
    _user: PodUser = PodUser()
    _agent_config: dict[str, Any] | None = None
    _chosen = Chosen("")
    _remarks: tuple[str, ...] = ()
    _doing = Step(2, "Your choice is looked at.")
    _pod_uid = ""
    _agent_token = 0

    ended = ""
    """Why the last session of this name is over, when it was not stopped by somebody; for the page that shows that none runs."""

    @default("cmd")
    def _cmd(self) -> list[str]:
        # The image's own command may be anything.
        return ["jupyterhub-singleuser"]

    @default("start_timeout")
    def _start_timeout(self) -> int:
        return 300

    @default("delete_grace_period")
    def _delete_grace_period(self) -> int:
        return 10

    @default("automount_service_account_token")
    def _automount_service_account_token(self) -> bool:
        return False

    @default("container_security_context")
    def _container_security_context(self) -> dict[str, Any]:
        return {"capabilities": RESTRICTED["capabilities"]}

    @default("pod_security_context")
    def _pod_security_context(self) -> dict[str, Any]:
        return dict(RESTRICTED_POD)

    @default("storage_pvc_ensure")
    def _storage_pvc_ensure(self) -> bool:
        return not self.home_volume

    @default("storage_capacity")
    def _storage_capacity(self) -> str:
        return "10Gi"

    @default("pvc_name_template")
    def _pvc_name_template(self) -> str:
        return "home-{username}"

    @default("delete_pvc")
    def _delete_pvc(self) -> bool:
        return False

    @default("server_token_scopes")
    def _server_token_scopes(self) -> list[str]:
        return SERVER_SCOPES

    @validate("profile_list")
    def _no_profiles(self, proposal: Any) -> Any:
        if proposal["value"]:
            raise TraitError(
                "found KubeSpawner.profile_list, wanted none: a profile would start what the policy does not give. Put its images and sizes "
                "into facility.yaml (images, sizes, rules), and take it out"
            )
        return proposal["value"]

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

    # --- the choice, for the last time -------------------------------------------------------------------------------------

    async def load_user_options(self) -> None:
        """What KubeSpawner does for profiles: turn the choice into what the pod will be."""
        await self._see_role()
        await self.prepare(self.user_options)

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
        prover = self._provers.setdefault(self.authenticator, Prover(lambda: self.authenticator.policy))
        try:
            return await prover.prove(options.image.container, platform_of(options.size))
        except ImageRefused as refusal:
            self._refuse(image_refused(policy, str(refusal), refusal.reason), refusal.reason)

    def _take(self, options: SessionOptions, proof: ImageProof) -> None:
        """Keep what was chosen, for the pod and for sentences about it."""
        self._options, self._user, self.image = options, user_of(proof.uid, proof.gid), proof.pinned
        self._chosen = Chosen(options.image.title or options.image_name, proof.size, options.size.memory)
        self.cpu_limit, self.mem_limit = options.size.cpus, options.size.memory
        self.cpu_guarantee = round(options.size.cpus * self.guaranteed_cores, 3)
        self.mem_guarantee = options.size.memory

    def _session_pod(
        self, options: SessionOptions, rights: Rights, policy: Policy
    ) -> tuple[SessionPod, dict[str, Any]]:
        """Our part of the pod, and what its agent is told beside its hub token."""
        fragment = self.describe(options, rights, policy, FOLDER)
        home = f"/home/{safe_name(self.user.name)}"
        session = SessionPod(
            fragment,
            f"{self.pod_name}-{secrets.token_hex(3)}",
            home,
            self._expand_all(self.home_volume) or {"persistentVolumeClaim": {"claimName": self.pvc_name}},
            self.agent_image,
            self.agent_resources,
            self._expand_all(self.home_sub_path),
            self.image_pull_policy or "IfNotPresent",
            round(self.first_token_timeout) + AGENT_SECONDS,
            bool(self.welcome),
        )
        pool = self._pool_of(rights, policy)
        cache = fragment.environment.get(CACHE, "")
        config = {
            "folder": FOLDER,
            "controller_url": self.controller_url,
            "cache": cache,
            "signpost_port": SIGNPOST_PORT if cache else 0,
            "repositories": read_repositories(fragment.environment),
            "pool": pool,
            "job_tokens": pool in token_pools(policy, rights, self.user.name),
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

    # --- the pod ----------------------------------------------------------------------------------------------------------

    def get_env(self) -> dict[str, Any]:
        """The user's container's environment; the administrator's ``environment`` has the last word, and no secret is in it."""
        assert self._session is not None
        hubs_own = {
            name: literal(value) if isinstance(value, str) and name not in self.environment else value
            for name, value in super().get_env().items()
            # The hub token goes under one name only; the other is for servers of JupyterHub before 0.8.
            if name != "JPY_API_TOKEN"
        }
        person = dict.fromkeys(("USER", "LOGNAME"), literal(self.user.name))
        ours = self._session.environment
        return {**person, **ours, **hubs_own, "JUPYTERHUB_API_TOKEN": ours["JUPYTERHUB_API_TOKEN"]}

    async def get_pod_manifest(self) -> V1Pod:
        """KubeSpawner's pod with our part laid over it."""
        assert self._session is not None and self._options is not None
        return lay_over(await super().get_pod_manifest(), self._session, self._options, self._user)

    async def _make_create_pod_request(self, pod: V1Pod, request_timeout: float) -> bool:
        """Make the pod and right after it its Secret; False when it shall be tried again."""
        self._check_last(pod)
        self._doing = Step(5, "Your session is being made.")
        try:
            made = await asyncio.wait_for(self.api.create_namespaced_pod(self.namespace, pod), request_timeout)
        except Exception as error:
            if isinstance(error, ApiException) and error.status == HTTPStatus.CONFLICT:
                self.log.info("an earlier pod %s is there and is removed", self.pod_name)
                await self.stop(now=True)
            elif not comes_back(error):
                raise
            return False
        self._pod_uid = made.metadata.uid
        try:
            await self._make_secret()
        except BaseException:
            await asyncio.shield(self.stop(now=True))
            raise
        self._be_adoptable()
        return True

    def _check_last(self, pod: V1Pod) -> None:
        """Refuse a pod whose image is not the one that was checked, whoever changed it."""
        images = [container.image for container in pod.spec.containers if container.name == NOTEBOOK]
        if images != [self.image] or self._options is None:
            self.log.error("not started: the pod has the images %s, checked was %s", images, self.image)
            self._refuse("The image of this session is not the one that was checked.", Reason.IMAGE)

    async def _make_secret(self) -> None:
        """The Secret with both hub tokens, which goes when the pod does.

        Raises
        ------
        SessionRefused
            When it cannot be made.
        """
        manifest = self.secret(self.api_token, self._new_agent_token())
        try:
            await exponential_backoff(
                partial(self._ask_for_secret, manifest), "no Secret", timeout=self.k8s_api_request_retry_timeout
            )
        except (ApiException, TimeoutError) as error:
            ended = self._why(error, "make the Secret of a session")
            self.log.error("no Secret for %s: %s", self._log_name, ended.sentence)
            self._refuse(ended.sentence, ended.reason, 500)

    def secret(self, server_token: str, agent_token: str) -> dict[str, Any]:
        """The session's Secret, with these hub tokens in it."""
        assert self._session is not None and self._agent_config is not None
        hub_api_url = super().get_env()["JUPYTERHUB_API_URL"]
        config = {**self._agent_config, "hub_api_url": hub_api_url, "hub_token": agent_token}
        data = {HUB_TOKEN: server_token, CONFIG_FILE: json.dumps(config)}
        labels = self._build_common_labels({"component": self.component_label})
        return secret_manifest(self._session.secret, self.pod_name, self._pod_uid, labels, data)

    async def _ask_for_secret(self, manifest: dict[str, Any]) -> bool:
        try:
            await asyncio.wait_for(
                self.api.create_namespaced_secret(self.namespace, manifest), self.k8s_api_request_timeout
            )
        except Exception as error:
            # Its name is random: one that is there was made by a request whose answer did not come in time.
            if isinstance(error, ApiException) and error.status == HTTPStatus.CONFLICT:
                return True
            if not comes_back(error):
                raise
            return False
        return True

    def _new_agent_token(self) -> str:
        """A hub token for the session's agent, which the user's server does not see."""
        self._end_agent_token()
        note = f"Session agent at {self.server.base_url if self.server else self.name}"
        try:
            token: str = self.user.new_api_token(note=note, scopes=AGENT_SCOPES)
        except ValueError as error:
            self.log.error("no hub token for session agents (c.JupyterHub.extra_user_scopes): %s", error)
            self._refuse(
                f"The hub's configuration does not let sessions have {', '.join(AGENT_SCOPES)} (c.JupyterHub.extra_user_scopes).",
                Reason.FACILITY,
                500,
            )
        self._agent_token = orm.APIToken.find(self.db, token).id
        return token

    def _end_agent_token(self) -> None:
        """Remove it from the hub."""
        if self._agent_token:
            found = self.db.get(orm.APIToken, self._agent_token)
            if found is not None and found.user_id == self.user.id and found.note.startswith("Session agent at "):
                self.db.delete(found)
            self._agent_token = 0
            self.db.commit()

    def _be_adoptable(self) -> None:
        """Record the session before it is ready, so that the next hub finds it should this one end now."""
        if self.orm_spawner is not None:
            self.orm_spawner.state = self.get_state()
            self.db.commit()

    # --- start ------------------------------------------------------------------------------------------------------------

    async def _start(self) -> str:
        """Start the pod; its address when the person's server answers.

        Raises
        ------
        SessionRefused
            In any other case; with a sentence.
        """
        self._pod_uid = self.ended = ""
        try:
            async with asyncio.timeout(self.start_timeout - 1):
                url = await self._until_it_runs(super()._start())
                await self._until_it_answers(url)
                return url
        except SessionRefused:
            raise
        except AFError as error:
            self._refuse(f"The session cannot be prepared: {error}", Reason.FACILITY, 500)
        except (ApiException, *NO_CONNECTION) as error:
            ended = self._why(error, "start your session")
        self._end(ended)

    def _why(self, error: Exception, asked: str) -> Ended:
        """What became of a request, or of the time."""
        self.log.warning("%s: cannot %s: %r", self._log_name, asked, error)
        if isinstance(error, ApiException) and not comes_back(error):
            return read_answer(error.status, str(error.body or error.reason or ""), asked)
        if not isinstance(error, TimeoutError) or not self._pod_uid:
            return AWAY
        return Ended(
            Reason.SILENT,
            f"Your session did not start within {self.start_timeout} seconds and was ended. The last that was seen: {self._step().sentence}",
        )

    def _end(self, ended: Ended) -> NoReturn:
        self._refuse(ended.sentence, ended.reason, 500)

    async def _until_it_runs(self, starting: Coroutine[Any, Any, str]) -> str:
        """Wait for KubeSpawner, or see it earlier; a pod that cannot come up is not waited for."""
        task = asyncio.ensure_future(starting)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                pod = self._own_pod()
                if ended := progress.why_not(pod, self._own_events(), self._chosen):
                    self._end(ended)
                if progress.server_is_up(pod):
                    return str(self._get_pod_url(pod))
            return task.result()
        finally:
            task.cancel()

    async def _until_it_answers(self, url: str) -> None:
        """Wait until the person's server answers, as long as its pod lives."""
        base = self.server.base_url if self.server else "/"
        answering = asyncio.create_task(comes_up(url, base, self.start_timeout))
        try:
            while not answering.done():
                await asyncio.wait({answering}, timeout=LOOK_SECONDS)
                if ended := progress.why_not(self._own_pod(), self._own_events(), self._chosen):
                    self._end(ended)
        finally:
            answering.cancel()

    def _own_pod(self) -> dict[str, Any] | None:
        """The pod of this start, as the watch saw it last."""
        found = self._seen_pod()
        return found if found and found["metadata"]["uid"] == self._pod_uid else None

    def _seen_pod(self) -> dict[str, Any] | None:
        """The pod of this name, as the watch saw it last."""
        pods: dict[str, Any] = self.pod_reflector.pods if self.pod_reflector else {}
        return pods.get(f"{self.namespace}/{self.pod_name}")

    def _own_events(self) -> list[progress.Event]:
        reflector = self.event_reflector
        return progress.of_pod(list(reflector.resources.values()), self._pod_uid) if reflector and self._pod_uid else []

    def _step(self) -> Step:
        """What the session does now."""
        if not self._pod_uid:
            return self._doing
        return progress.where_it_is(self._own_pod(), self._own_events(), time.time(), self._chosen)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the session does while it starts, each time it is something new; for the page on which somebody waits."""
        said, told = "", 0
        while self._start_future is None or not self._start_future.done():
            step = self._step()
            for remark in self._remarks[told:]:
                told += 1
                yield {"progress": step.percent, "message": remark}
            if step.sentence != said:
                said = step.sentence
                yield {"progress": step.percent, "message": step.sentence}
            await asyncio.sleep(PROGRESS_SECONDS)

    # --- the Role -----------------------------------------------------------------------------------------------------------

    async def _see_role(self) -> None:
        """Refuse while the hub's Role lacks something: what is started could not be ended.

        Raises
        ------
        SessionRefused
            With a sentence for the analyst; what is missing stands in the log.
        """
        if self.namespace in self._roles_seen:
            return
        try:
            said = await self.role_lacks()
        except (ApiException, *NO_CONNECTION) as error:
            self._end(self._why(error, "ask what the hub may do"))
        if said:
            self.log.critical("no session starts. %s", said)
            self._refuse(
                "The hub lacks rights in the cluster, so no session starts now; tell the facility's administrators. The hub's log says which.",
                Reason.FACILITY,
                500,
            )
        self._roles_seen.add(self.namespace)

    @classmethod
    async def at_hub_start(cls, app: Any) -> None:
        """Say in the log at once what no session could start with; :class:`~af_hub.authenticator.IAMAuthenticator` calls it."""
        try:
            if said := await cls(parent=app, _mock=True).role_lacks():
                app.log.critical("no session starts. %s", said)
        except TraitError as error:
            app.log.critical("no session starts. The hub's configuration cannot be: %s", error)
        except (ApiException, *NO_CONNECTION) as error:
            app.log.error(
                "what the hub may do in the cluster cannot be seen now; it is looked at with the first session: %r",
                error,
            )

    async def role_lacks(self) -> str:
        """What the hub's Role lacks, for administrators; empty when nothing.

        Raises
        ------
        ApiException, aiohttp.ClientError, TimeoutError
            When the API does not say.
        """
        wanted = verbs.wanted(self.events_enabled, self.storage_pvc_ensure)
        missing = await verbs.missing_verbs(self.namespace, wanted, shared_client("AuthorizationV1Api"))
        return verbs.describe_missing(missing, self.namespace)

    # --- poll, stop, state ----------------------------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the session runs, or nobody can say; else its exit status. Leaves nothing of a session that is over."""
        try:
            await self._start_watching_pods()
        except (ApiException, *NO_CONNECTION) as error:
            self.log.warning("whether %s runs cannot be seen now: %r", self._log_name, error)
            return None
        if self._check_pending and self._pod_uid:
            await self._adopt()
        pod = self._seen_pod()
        if pod is None and self._stop_pending:
            # A start that failed is being swept up. Told that it is over, JupyterHub 6.1.1 asks for the reason a moment too early, and answers 500.
            return None
        if pod is not None and progress.is_over(pod):
            ended = progress.why_not(pod, (), self._chosen)
            self.ended = ended.sentence if ended else "Your session has ended."
            self.log.warning("%s is over: %s", self._log_name, self.ended)
            await self.stop(now=True)
            return progress.exit_status(pod)
        status: int | None = await super().poll()
        return status

    async def _adopt(self) -> None:
        """Wait for a session that was starting when the hub before this one ended; one that does not come up is removed."""
        until = time.monotonic() + ADOPT_SECONDS
        while (pod := self._seen_pod()) is not None and not progress.server_is_up(pod) and not progress.is_over(pod):
            if time.monotonic() > until or progress.why_not(pod, self._own_events(), self._chosen):
                await self.stop(now=True)
                return
            await asyncio.sleep(LOOK_SECONDS)

    def get_state(self) -> dict[str, Any]:
        """What a new hub needs to adopt the session."""
        state: dict[str, Any] = super().get_state()
        if self._pod_uid:
            state |= {"pod_uid": self._pod_uid, "agent_token": self._agent_token}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Adopt the session that an earlier hub started."""
        super().load_state(state)
        self._pod_uid, self._agent_token = state.get("pod_uid", ""), state.get("agent_token", 0)

    def clear_state(self) -> None:
        """Forget the session, which is over, and end its agent's hub token."""
        super().clear_state()
        self._end_agent_token()
        self._pod_uid = ""


def lay_over(pod: V1Pod, session: SessionPod, options: SessionOptions, user: PodUser) -> V1Pod:
    """KubeSpawner's pod with our part; where both say something of the pod's security, the administrator's setting holds."""
    # The client's own classes say less than KubeSpawner puts into them.
    spec: Any = pod.spec
    server = spec.containers[0]
    spec.enable_service_links = False
    # What ended is over, and says why; the sidecars have a policy of their own.
    spec.restart_policy = "Never"
    spec.security_context = {**user.context, **(spec.security_context or {})}
    spec.volumes = [*(spec.volumes or []), *models(V1Volume, session.volumes)]
    spec.init_containers = [*models(V1Container, session.sidecars), *(spec.init_containers or [])]
    _place(pod, options.size)
    own = server.security_context or {}
    server.security_context = {key: value for key, value in own.items() if key not in ("runAsUser", "runAsGroup")}
    server.volume_mounts = [*(server.volume_mounts or []), *models(V1VolumeMount, session.mounts)]
    server.working_dir = server.working_dir or session.home
    server.termination_message_policy = "FallbackToLogsOnError"
    for kind in ("requests", "limits"):
        setattr(server.resources, kind, with_resources(getattr(server.resources, kind), options.size.resources))
    pod.metadata.annotations |= {"af-hub.org/image": options.image_name, "af-hub.org/size": options.size_name}
    return pod


def _place(pod: V1Pod, size: Size) -> None:
    """Put it on the nodes that are for this size: labels that they must have, and taints that it does not mind."""
    if size.node_selector:
        pod.spec.node_selector = {**(pod.spec.node_selector or {}), **size.node_selector}
    tolerations = [one.model_dump(exclude_none=True, exclude_defaults=False) for one in size.tolerations]
    if tolerations:
        pod.spec.tolerations = [*(pod.spec.tolerations or []), *models(V1Toleration, tolerations)]


def platform_of(size: Size) -> str:
    """What the image must be for: the processor of the nodes that the size is for, where it says one; empty for the hub's own."""
    processor = size.node_selector.get("kubernetes.io/arch")
    return f"linux/{processor}" if processor else ""


def models(kind: type[Any], found: list[dict[str, Any]]) -> list[Any]:
    """Plain objects as the client's own, which KubeSpawner's hooks expect."""
    return [get_k8s_model(kind, one) for one in found]
