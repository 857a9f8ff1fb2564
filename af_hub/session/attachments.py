"""The near ends of the tunnels: for each attached Dask cluster its keys, and a local port that leads to its scheduler.

An attachment is a folder ``clusters/<id>/`` in the session's folder (0700, files 0600)::

    ssh.key, ssh.cert             for the forwarder
    tls.key, tls.pem, tls-ca.pem  for Dask, which reads them from there
    attachment.json               the forwarder's address and host key, the local port, when the certificates end

Promises: attaching twice is attaching once; the port of a Dask cluster stays the same for the life of the session, also when the agent is
killed and starts again (unless somebody took the port meanwhile: then it is another); what is on disk is whole. Leaves to the controller
whose Dask cluster it is.
"""

import asyncio
import json
import logging
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from af_hub.errors import AFError
from af_hub.files import write_private
from af_hub.forwarder.access import is_dask_cluster
from af_hub.session.controller import Credentials
from af_hub.session.keys import SessionKeys, make_keys

log = logging.getLogger(__name__)

LEFT_SECONDS = 60
"""Certificates with less life than this are asked for anew."""


@dataclass(frozen=True)
class Attachment:
    """One Dask cluster that this session can reach."""

    dask_cluster: str
    credentials: Credentials
    port: int
    folder: Path
    ssh_key: str = field(repr=False)

    def describe(self) -> dict[str, object]:
        """For the agent's API."""
        return {
            "cluster": self.dask_cluster,
            "scheduler": f"tls://127.0.0.1:{self.port}",
            "tls": {
                "ca": str(self.folder / "tls-ca.pem"),
                "cert": str(self.folder / "tls.pem"),
                "key": str(self.folder / "tls.key"),
            },
            "expires_at": self.credentials.expires_at,
        }


class OpenBridge(Protocol):
    """A listener on the loopback whose connections end at the Dask cluster's scheduler."""

    @property
    def port(self) -> int:
        """Where it listens."""

    async def close(self) -> None:
        """Stop listening, and end what is open."""


BridgeOpener = Callable[[str, Credentials, str, int], Awaitable[OpenBridge]]
"""Of Dask cluster, credentials, SSH key and the wanted port (0 for any)."""

CredentialsSource = Callable[[str, SessionKeys], Awaitable[Credentials]]


class BadClusterId(AFError):
    """What was given is no Dask cluster's id."""


class Attachments:
    """All attachments of a session.

    Parameters
    ----------
    folder
        ``clusters`` in the session's folder.
    """

    def __init__(
        self,
        folder: Path,
        credentials: CredentialsSource,
        open_bridge: BridgeOpener,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._credentials, self._open_bridge, self._now = folder, credentials, open_bridge, now
        self._open: dict[str, tuple[Attachment, OpenBridge]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def all(self) -> list[Attachment]:
        """Those that are open, by id."""
        return [attachment for _, (attachment, _) in sorted(self._open.items())]

    async def attach(self, dask_cluster: str) -> Attachment:
        """The attachment of this Dask cluster, made when there is none or its certificates end.

        Raises
        ------
        BadClusterId, ControllerRefused, Unavailable
            When it cannot be had.
        """
        check_id(dask_cluster)
        async with self._locks[dask_cluster]:
            port = 0
            if dask_cluster in self._open:
                attachment, _ = self._open[dask_cluster]
                if attachment.credentials.expires_at - self._now() > LEFT_SECONDS:
                    return attachment
                port = attachment.port
            keys = await asyncio.to_thread(make_keys)
            credentials = await self._credentials(dask_cluster, keys)
            await self._close(dask_cluster)
            return await self._attach(dask_cluster, credentials, keys, port)

    async def detach(self, dask_cluster: str) -> None:
        """Close it and remove its keys; may be repeated."""
        check_id(dask_cluster)
        async with self._locks[dask_cluster]:
            await self._close(dask_cluster)
            shutil.rmtree(self._folder / dask_cluster, ignore_errors=True)

    async def take_up(self) -> None:
        """Open again what an earlier agent of this session had open, at the same ports where they are free."""
        for folder in sorted(self._folder.glob("[0-9a-f]*")):
            try:
                attachment = read_attachment(folder)
                self._open[attachment.dask_cluster] = await self._take_up(attachment)
            except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, AFError) as error:
                log.error("Dask cluster %s cannot be taken up again: %s", folder.name, error)

    async def _take_up(self, attachment: Attachment) -> tuple[Attachment, OpenBridge]:
        asked = (attachment.dask_cluster, attachment.credentials, attachment.ssh_key)
        try:
            return attachment, await self._open_bridge(*asked, attachment.port)
        except OSError as error:
            log.warning("port %d is not free any more (%s); taking another", attachment.port, error)
        bridge = await self._open_bridge(*asked, 0)
        moved = replace(attachment, port=bridge.port)
        write_private(moved.folder / "attachment.json", _as_json(moved))
        return moved, bridge

    async def close(self) -> None:
        """Close the bridges; the folders stay for the next agent."""
        for dask_cluster in list(self._open):
            await self._close(dask_cluster)

    async def _attach(self, dask_cluster: str, credentials: Credentials, keys: SessionKeys, port: int) -> Attachment:
        bridge = await self._open_bridge(dask_cluster, credentials, keys.ssh, port)
        attachment = Attachment(dask_cluster, credentials, bridge.port, self._folder / dask_cluster, keys.ssh)
        try:
            write_attachment(attachment, keys)
        except OSError:
            await bridge.close()
            raise
        self._open[dask_cluster] = (attachment, bridge)
        return attachment

    async def _close(self, dask_cluster: str) -> None:
        if dask_cluster in self._open:
            _, bridge = self._open.pop(dask_cluster)
            await bridge.close()


def check_id(dask_cluster: str) -> None:
    """Raise :class:`BadClusterId` unless it is one; it becomes the name of a folder."""
    if not is_dask_cluster(dask_cluster):
        raise BadClusterId("A Dask cluster's id has 32 characters, each of 0-9 and a-f.")


def write_attachment(attachment: Attachment, keys: SessionKeys) -> None:
    """Its folder, whole from the first moment that it is there."""
    new = attachment.folder.with_name(f".{attachment.dask_cluster}.{secrets.token_hex(4)}")
    new.mkdir(mode=0o700, parents=True)
    for name, content in (
        ("ssh.key", keys.ssh),
        ("ssh.cert", attachment.credentials.ssh_certificate),
        ("tls.key", keys.tls),
        ("tls.pem", attachment.credentials.tls_certificate),
        ("tls-ca.pem", attachment.credentials.tls_ca),
        ("attachment.json", _as_json(attachment)),
    ):
        write_private(new / name, content)
    shutil.rmtree(attachment.folder, ignore_errors=True)
    new.rename(attachment.folder)


def _as_json(attachment: Attachment) -> str:
    return json.dumps({"port": attachment.port, "credentials": asdict(attachment.credentials)})


def read_attachment(folder: Path) -> Attachment:
    """What :func:`write_attachment` wrote."""
    check_id(folder.name)
    found = json.loads((folder / "attachment.json").read_text())
    return Attachment(
        folder.name, Credentials(**found["credentials"]), found["port"], folder, (folder / "ssh.key").read_text()
    )
