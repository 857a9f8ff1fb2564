"""What the session agent asks of the controller: credentials for one Dask cluster of this person, and tokens for their batch jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from af_hub.errors import AFError, Unavailable
from af_hub.session.keys import SessionKeys

ANSWER_SECONDS = 30


class ControllerRefused(AFError):
    """The controller said no; ``status`` and the sentence are its own."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Credentials:
    """What the controller gives for our public keys; nothing in it is secret."""

    host: str
    port: int
    host_key: str
    ssh_certificate: str
    tls_certificate: str
    tls_ca: str
    expires_at: float


def read_credentials(found: Any) -> Credentials:
    """The answer of ``POST api/clusters/{id}/credentials``.

    Raises
    ------
    Unavailable
        When it is not what was agreed.
    """
    try:
        forwarder = found["forwarder"]
        return Credentials(
            str(forwarder["host"]),
            int(forwarder["port"]),
            str(forwarder["host_key"]),
            str(found["ssh_certificate"]),
            str(found["tls_certificate"]),
            str(found["tls_ca"]),
            float(found["expires_at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable("the controller's answer holds no credentials") from error


class Controller:
    """The controller's REST API, as this session with its own hub token."""

    def __init__(self, http: aiohttp.ClientSession, url: str, hub_token: str) -> None:
        self._http, self._url, self._headers = http, url, {"Authorization": f"token {hub_token}"}

    async def credentials(self, dask_cluster: str, keys: SessionKeys) -> Credentials:
        """Certificates for ``keys``, and where the forwarder is.

        Raises
        ------
        ControllerRefused
            With its status, such as 404 for a Dask cluster that is not this person's.
        Unavailable
            When it does not answer in time.
        """
        body = {"ssh_public_key": keys.ssh_public, "tls_csr": keys.tls_csr}
        return read_credentials(await self._post(f"api/clusters/{dask_cluster}/credentials", body))

    async def bring_job_tokens(self, pool: str) -> None:
        """Have the token with which batch jobs in this pool read data brought there.

        Raises
        ------
        ControllerRefused, Unavailable
            As :meth:`credentials`.
        """
        await self._post("api/job-tokens", {"pool": pool})

    async def _post(self, path: str, body: Mapping[str, str]) -> Any:
        try:
            async with self._http.post(
                f"{self._url}{path}",
                headers=self._headers,
                json=body,
                timeout=aiohttp.ClientTimeout(ANSWER_SECONDS),
                allow_redirects=False,
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the controller does not answer ({type(error).__name__})") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            sentence = answer.get("detail") if isinstance(answer, dict) else None
            raise ControllerRefused(response.status, str(sentence or f"the controller said {response.status}"))
        return answer
