"""KubeSpawner for the time when Kubernetes' API does not answer: nobody's session is taken for dead, and nothing is given up early."""

from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiException
from kubespawner import KubeSpawner
from kubespawner.reflector import ResourceReflector
from traitlets import default

from af_hub.serving import has_given_up

NO_CONNECTION = (aiohttp.ClientError, OSError, TimeoutError)
"""What the client raises when nobody answers."""


def comes_back(error: Exception) -> bool:
    """Whether the same request may be answered later."""
    if isinstance(error, ApiException):
        return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status == HTTPStatus.TOO_MANY_REQUESTS
    return isinstance(error, NO_CONNECTION)


class SteadyKubeSpawner(KubeSpawner):  # type: ignore[misc]  # KubeSpawner has no types
    """The parts of KubeSpawner 7.1.0 that an API server which is away for a minute would break."""

    @default("k8s_api_request_timeout")
    def _k8s_api_request_timeout(self) -> int:
        return 10

    @default("k8s_api_request_retry_timeout")
    def _k8s_api_request_retry_timeout(self) -> int:
        return 120

    async def _start_reflector(
        self, kind: str, reflector_class: type[ResourceReflector], replace: bool = False, **kwargs: Any
    ) -> ResourceReflector:
        """As KubeSpawner's, but one that gave up is begun anew: the pods that it saw last would run for ever.

        Raises
        ------
        ApiException, aiohttp.ClientError, OSError
            When the API does not answer the new one; what is known of pods then is nothing.
        """
        known = self.reflectors.get(self._get_reflector_key(kind))
        return await super()._start_reflector(
            kind=kind,
            reflector_class=reflector_class,
            replace=replace or (known is not None and has_given_up(known)),
            **kwargs,
        )

    async def _make_delete_pod_request(self, *args: Any) -> bool:
        """As KubeSpawner's, which gives up when nobody answers."""
        try:
            return bool(await super()._make_delete_pod_request(*args))
        except Exception as error:
            if not comes_back(error):
                raise
            self.log.warning("pod %s/%s is not removed yet: %r", self.namespace, self.pod_name, error)
            return False

    async def _make_create_pvc_request(self, *args: Any) -> bool:
        """As KubeSpawner's, which gives up when nobody answers."""
        try:
            return bool(await super()._make_create_pvc_request(*args))
        except Exception as error:
            if not comes_back(error):
                raise
            self.log.warning("claim %s/%s is not made yet: %r", self.namespace, self.pvc_name, error)
            return False
