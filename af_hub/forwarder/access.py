"""Who may do what at the forwarder: a function of the certificate's principal and the path asked for.

Serves every hop that begins or ends at the forwarder. Promises: what is not written exactly as :class:`Endpoint` and
:class:`Principal` write it is refused, so nothing that merely looks alike gets through. Leaves to :mod:`af_hub.forwarder.server`
the proof that somebody holds the principal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from af_hub.errors import EndpointRefused

DASK_CLUSTER = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Service(StrEnum):
    """What a Dask cluster offers; there is nothing else."""

    SCHEDULER = "scheduler"
    DASHBOARD = "dashboard"
    AGENT = "agent"


class Role(StrEnum):
    """Whom the controller's CA certifies."""

    JOB = "job"
    SESSION = "session"
    CONTROLLER = "controller"


OPENS = {
    Role.JOB: frozenset[Service](),
    Role.SESSION: frozenset({Service.SCHEDULER, Service.DASHBOARD}),
    Role.CONTROLLER: frozenset({Service.DASHBOARD, Service.AGENT}),
}
"""The services that a role may open: a session those of its own Dask cluster, the controller those of every one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service of one Dask cluster; as text the path ``/<dask cluster>/<service>``."""

    dask_cluster: str
    service: Service

    def __str__(self) -> str:
        return f"/{self.dask_cluster}/{self.service}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a certificate says its holder is; as text ``job:<dask cluster>``, ``session:<dask cluster>`` or ``controller``."""

    role: Role
    dask_cluster: str = ""

    def __str__(self) -> str:
        return f"{self.role}:{self.dask_cluster}" if self.dask_cluster else str(self.role)


def is_dask_cluster(text: str) -> bool:
    """Whether ``text`` is the id of a Dask cluster: 32 lowercase hexadecimal digits."""
    return DASK_CLUSTER.fullmatch(text) is not None


def read_endpoint(path: str) -> Endpoint:
    """The endpoint that a path names.

    Raises
    ------
    EndpointRefused
        When it is not exactly ``/<32 lowercase hexadecimal digits>/<scheduler, dashboard or agent>``.
    """
    empty, _, rest = path.partition("/")
    dask_cluster, _, service = rest.partition("/")
    if empty or not is_dask_cluster(dask_cluster) or service not in list(Service):
        raise EndpointRefused("an endpoint is /<32 lowercase hexadecimal digits>/<scheduler, dashboard or agent>")
    return Endpoint(dask_cluster, Service(service))


def read_principal(text: str) -> Principal:
    """The principal that a name stands for.

    Raises
    ------
    EndpointRefused
        When it is not exactly one of the three forms.
    """
    if text == Role.CONTROLLER:
        return Principal(Role.CONTROLLER)
    role, _, dask_cluster = text.partition(":")
    if role not in (Role.JOB, Role.SESSION) or not is_dask_cluster(dask_cluster):
        raise EndpointRefused("a principal is job:<Dask cluster>, session:<Dask cluster> or controller")
    return Principal(Role(role), dask_cluster)


def read_login(username: str, principals: Sequence[str]) -> Principal:
    """Who logs in: the certificate names exactly one principal, and the SSH user name is that principal.

    Raises
    ------
    EndpointRefused
        When there is no principal (OpenSSH takes that for everybody), more than one, or another than the user name.
    """
    if len(principals) != 1 or principals[0] != username:
        raise EndpointRefused("the certificate must name exactly one principal, which is also the SSH user name")
    return read_principal(username)


def may_offer(principal: Principal, endpoint: Endpoint) -> bool:
    """Whether a job may offer this endpoint: those of its own Dask cluster."""
    return principal == Principal(Role.JOB, endpoint.dask_cluster)


def may_open(principal: Principal, endpoint: Endpoint) -> bool:
    """Whether this endpoint may be opened; nobody but the controller reaches more than one Dask cluster."""
    own = principal.role is Role.CONTROLLER or principal.dask_cluster == endpoint.dask_cluster
    return own and endpoint.service in OPENS[principal.role]


def may_command(principal: Principal) -> bool:
    """Whether this principal may watch events and drop Dask clusters."""
    return principal.role is Role.CONTROLLER
