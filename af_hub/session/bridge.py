"""A tunnel's near end on this machine: a port of the loopback that leads to a Dask cluster's scheduler, through the forwarder."""

from dataclasses import dataclass

from af_hub.forwarder.access import Endpoint, Principal, Role, Service
from af_hub.forwarder.bridge import Bridge
from af_hub.forwarder.link import Link
from af_hub.forwarder.login import Credentials as Login
from af_hub.forwarder.login import ForwarderAddress
from af_hub.session.controller import Credentials


@dataclass
class TunnelBridge:
    """One connection to the forwarder and the listener that uses it."""

    link: Link
    bridge: Bridge

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self.bridge.port

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        await self.bridge.close()
        await self.link.close()


async def open_bridge(dask_cluster: str, credentials: Credentials, ssh_key: str, port: int) -> TunnelBridge:
    """Listen, and dial the forwarder in the background: what connects before it is there is held meanwhile.

    Raises
    ------
    OSError
        When the port is taken.
    """
    address = ForwarderAddress(credentials.host, credentials.port, credentials.host_key)
    login = Login(str(Principal(Role.SESSION, dask_cluster)), ssh_key, credentials.ssh_certificate)
    link = Link(address, login)
    bridge = await Bridge(link, Endpoint(dask_cluster, Service.SCHEDULER), port=port).start()
    await link.start()
    return TunnelBridge(link, bridge)
