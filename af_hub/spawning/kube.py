"""Sessions as pods, each with its session agent beside the user's container; the hop from the hub to Kubernetes.

KubeSpawner does what it can do: names, homes, watching the pods, removing them. Ours are the choice (instead of profiles, which would go
round the policy), what stands in a pod, its Secret, and every sentence; each has a module of its own, and here they are put to work.
Promises: the image that starts is the one that was checked; no secret stands in a pod; what can only fail ends at once, and leaves nothing.
"""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

from kubernetes_asyncio.client import ApiException, V1Pod
from traitlets import TraitError

from af_hub.errors import AFError
from af_hub.session.options import Reason
from af_hub.spawning import secret, verbs
from af_hub.spawning.agent import AGENT_SCOPES
from af_hub.spawning.failures import why_not
from af_hub.spawning.garbage import spare_what_is_loaded
from af_hub.spawning.pod import NOTEBOOK
from af_hub.spawning.podstate import exit_status, is_over
from af_hub.spawning.sentences import TAKEN, Step
from af_hub.spawning.steady import NO_CONNECTION, comes_back
from af_hub.spawning.watching import WatchingSpawner


class AFSpawner(WatchingSpawner):
    """Sessions as pods of Kubernetes, with the image's own user, without any right in the cluster.

    All that KubeSpawner can be told still holds, but for ``image``, ``profile_list``, ``uid``, ``gid``, the limits and guarantees: those
    the policy and the image decide.
    """

    _ends: ClassVar[dict[tuple[str, str], str]] = {}
    _roles_seen: ClassVar[set[str]] = set()
    _agent_token = 0

    # --- what the hub may do ----------------------------------------------------------------------------------------------

    @classmethod
    async def at_hub_start(cls, app: Any) -> None:
        """Say in the log at once what no session could start with; :class:`~af_hub.authenticator.IAMAuthenticator` calls it."""
        spare_what_is_loaded()
        try:
            if said := await cls(parent=app, _mock=True)._role_lacks():
                app.log.critical("no session starts. %s", said)
        except TraitError as error:
            app.log.critical("no session starts. The hub's configuration cannot be: %s", error)
        except (ApiException, *NO_CONNECTION) as error:
            app.log.error(
                "what the hub may do in the cluster cannot be seen now; it is looked at with the first session: %r",
                error,
            )

    async def _see_role(self) -> None:
        """Refuse while the hub's Role lacks something, before the first session of each namespace: what is started could not be ended.

        Raises
        ------
        SessionRefused
            With a sentence for the analyst; what is missing stands in the log.
        """
        if self.namespace in self._roles_seen:
            return
        try:
            said = await self._role_lacks()
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

    async def _role_lacks(self) -> str:
        return await verbs.role_lacks(self.namespace, events=self.events_enabled, homes=self.storage_pvc_ensure)

    # --- start ------------------------------------------------------------------------------------------------------------

    async def _start(self) -> str:
        """Start the pod; its address when the person's server answers.

        Raises
        ------
        SessionRefused
            In any other case; with a sentence.
        """
        self._pod_uid = ""
        self._ends.pop((self.user.name, self.name), None)
        try:
            async with asyncio.timeout(self.start_timeout - 1):
                url = await self._until_it_runs(super()._start())
                await self._until_it_answers(url)
                return url
        except AFError as error:
            self._refuse(f"The session cannot be prepared: {error}", Reason.FACILITY, 500)
        except (ApiException, *NO_CONNECTION) as error:
            ended = self._why(error, "start your session")
        self._end(ended)

    async def load_user_options(self) -> None:
        """What KubeSpawner does for profiles: turn the choice into what the pod will be."""
        await self._see_role()
        await self.prepare(self.user_options)

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
        manifest = self.describe_secret(
            pod_uid=self._pod_uid, server_token=self.api_token, agent_token=self._new_agent_token()
        )
        waits = (self.k8s_api_request_timeout, self.k8s_api_request_retry_timeout)
        try:
            await secret.make_secret(self.api, self.namespace, manifest, *waits)
        except (ApiException, TimeoutError) as error:
            ended = self._why(error, "make the Secret of a session")
            self.log.error("no Secret for %s: %s", self._log_name, ended.sentence)
            self._refuse(ended.sentence, ended.reason, 500)

    def _new_agent_token(self) -> str:
        """A hub token for the session's agent, in the place of an earlier one."""
        self._end_agent_token()
        try:
            token, self._agent_token = secret.new_agent_token(
                self.user, self.server.base_url if self.server else self.name
            )
        except ValueError as error:
            self.log.error("no hub token for session agents (c.JupyterHub.extra_user_scopes): %s", error)
            self._refuse(
                f"The hub's configuration does not let sessions have {', '.join(AGENT_SCOPES)} (c.JupyterHub.extra_user_scopes).",
                Reason.FACILITY,
                500,
            )
        return token

    def _end_agent_token(self) -> None:
        if self._agent_token:
            secret.end_agent_token(self.user, self._agent_token)
            self._agent_token = 0

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
        if pod is not None and is_over(pod):
            ended = why_not(pod, (), self._chosen)
            self._note_end(ended.sentence if ended else "Your session has ended.")
            await self.stop(now=True)
            return exit_status(pod)
        status: int | None = await super().poll()
        if status is not None and pod is None and self._pod_uid:
            self._note_end(TAKEN.sentence)
        return status

    def _note_end(self, sentence: str) -> None:
        self.log.warning("%s is over: %s", self._log_name, sentence)
        self._ends[self.user.name, self.name] = sentence

    @classmethod
    def why_ended(cls, username: str, server: str) -> str:
        """Why the last session of this name is over, when nobody stopped it; for the page that shows that none runs. Empty when not known."""
        return cls._ends.get((username, server), "")

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
