"""No session starts while the hub's Role in the cluster lacks something: what is started could not be ended."""

from typing import Any, ClassVar

from kubernetes_asyncio.client import ApiException
from kubespawner.clients import shared_client
from traitlets import TraitError

from af_hub.session.options import Reason
from af_hub.spawning import verbs
from af_hub.spawning.garbage import spare_what_is_loaded
from af_hub.spawning.steady import NO_CONNECTION
from af_hub.spawning.watched import WatchedPod


class RoleSeen(WatchedPod):
    """What the hub may do, seen at the hub's start, and before the first session of each namespace."""

    _roles_seen: ClassVar[set[str]] = set()

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
        spare_what_is_loaded()
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
