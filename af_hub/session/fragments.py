"""What a session gets, as plain values: environment, files, and where there are pods volumes, mounts and sidecars.

Each fragment arrives whole and is rendered once for all spawners. A path in it stands below ``folder``, the session's own folder
(0700, gone when the session is), where the session agent puts the token and listens. Nothing here is a secret: tokens and keys come
into that folder later, from the agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from af_hub.condor.jobtoken import SUBMIT_ENVIRONMENT
from af_hub.errors import FragmentConflict
from af_hub.forwarder.dask_settings import CLIENT, as_environment

if TYPE_CHECKING:  # the session agent reads names from here, and has no pydantic
    from af_hub.policy.sites import Pool

TOKEN_FILE = "token"  # noqa: S105
POOL_TOKEN_FILE = "pool-token"  # noqa: S105
POOL_AUTHORITY_FILE = "pool-ca.pem"
AGENT_SOCKET = "agent.sock"
READY_FILE = "ready"
"""There when the agent serves and the first token has come, or will not come soon."""


@dataclass(frozen=True)
class SessionFragment:
    """One concern of a session.

    Parameters
    ----------
    environment
        For the user's server and all that it starts.
    files
        Content by path relative to the session's folder.
    volumes, mounts, sidecars
        By name, each as the plain object that Kubernetes takes; a spawner without pods leaves them out.
    agent_mounts
        Those that the session agent has too, where it looks after what is there.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    agent_mounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sidecars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def merge(*fragments: SessionFragment) -> SessionFragment:
    """All of them in one; the same value twice is no conflict.

    Raises
    ------
    FragmentConflict
        When two want different values in one place.
    """
    return SessionFragment(
        **{
            part.name: _merged(part.name, [getattr(one, part.name) for one in fragments])
            for part in fields(SessionFragment)
        }
    )


def _merged(part: str, mappings: list[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            if whole.setdefault(key, value) != value:
                raise FragmentConflict(f"Two parts of the session want {part} {key!r}: {whole[key]!r} and {value!r}.")
    return whole


def image_fragment(name: str) -> SessionFragment:
    """Which image this is, so that a Dask cluster gets the same one."""
    return SessionFragment(environment={"AF_IMAGE": name})


def token_fragment(folder: str) -> SessionFragment:
    """Where the session agent keeps the access token fresh (WLCG Bearer Token Discovery, step 2)."""
    return SessionFragment(environment={"BEARER_TOKEN_FILE": f"{folder}/{TOKEN_FILE}"})


def dask_fragment(folder: str, controller_url: str, sites: tuple[str, ...], page: str = "") -> SessionFragment:
    """Dask clusters at sites: whom to ask, who holds the tunnel, how any ``Client("tls://…")`` finds its credentials.

    The link to a dashboard leads to the controller's page: Dask would build it from the scheduler's address, which here is the
    near end of a tunnel. :class:`af_hub.client.RemoteHTCondor` knows its own dashboard and does not use this.

    Parameters
    ----------
    page
        Where a browser finds the controller, if that is another address than the session's.
    """
    return SessionFragment(
        environment={
            "AF_CONTROLLER_URL": controller_url,
            "AF_AGENT_SOCKET": f"{folder}/{AGENT_SOCKET}",
            "AF_SITES": ",".join(sites),
            "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER": "af_hub.client.security.load_security",
            "DASK_DISTRIBUTED__DASHBOARD__LINK": page or "{AF_CONTROLLER_URL}",
            **as_environment(CLIENT),
        }
    )


def condor_fragment(folder: str, pool: "Pool", job_tokens: bool = False, authority: str = "") -> SessionFragment:
    """HTCondor's tools and bindings in the session: this pool, by token and nothing else, no file of the machine's own HTCondor.

    The names are HTCondor's configuration macros (manual, section "Configuration Macros"), given by environment. The token is one of its
    own, which the agent keeps fresh: good for this pool alone, and the only one with which jobs can be submitted. That of
    ``BEARER_TOKEN_FILE`` is shown to every cache and storage element.

    Parameters
    ----------
    job_tokens
        Whether jobs that are submitted here ask for a token to read data with.
    authority
        The authority behind the access point's certificate, in PEM; it comes as a file. When empty, the session's machine has the pool's
        ``ca_file``.
    """
    return SessionFragment(
        environment={
            "CONDOR_CONFIG": "/dev/null",
            "_condor_COLLECTOR_HOST": pool.collector,
            "_condor_SCHEDD_HOST": pool.schedd,
            "_condor_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
            "_condor_SEC_CLIENT_AUTHENTICATION_METHODS": "SCITOKENS",
            "_condor_AUTH_SSL_CLIENT_CAFILE": f"{folder}/{POOL_AUTHORITY_FILE}" if authority else pool.ca_file,
            "_condor_SCITOKENS_FILE": f"{folder}/{POOL_TOKEN_FILE}",
            **(SUBMIT_ENVIRONMENT if job_tokens else {}),
        },
        files={POOL_AUTHORITY_FILE: authority} if authority else {},
    )
