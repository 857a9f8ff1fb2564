"""What the controller may order at the forwarder, each over a channel of its own.

``events``
    A line of JSON for each endpoint offered now, ``{"event": "snapshot"}``, then one for each change.
``drop <Dask cluster>``
    Ends its connections and refuses it from then on.

Leaves to :mod:`af_hub.forwarder.server` who may give a command.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncssh

from af_hub.forwarder.access import Endpoint, is_dask_cluster
from af_hub.forwarder.offers import Offers

EVENTS_BACKLOG = 1 << 20
"""Bytes of events that a watcher may leave unread before it is sent away."""


class Command(asyncssh.SSHServerSession[str]):
    """A command of the controller; no shell, no terminal, no subsystem."""

    def __init__(self, offers: Offers[Any], drop: Callable[[str], int]) -> None:
        self._offers, self._drop = offers, drop
        self._channel: asyncssh.SSHServerChannel[str] | None = None
        self._words: list[str] = []

    def connection_made(self, chan: "asyncssh.SSHServerChannel[str]") -> None:
        """The channel is there."""
        self._channel = chan

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        self._offers.unwatch(self._tell)

    def exec_requested(self, command: str) -> bool:
        """Whether we know this command."""
        self._words = command.split(" ")
        match self._words:
            case ["events"]:
                return True
            case ["drop", dask_cluster]:
                return is_dask_cluster(dask_cluster)
            case _:
                return False

    def session_started(self) -> None:
        """Do it."""
        match self._words:
            case ["events"]:
                self._offers.watch(self._tell)
                self._say(event="snapshot")
            case ["drop", dask_cluster]:
                self._say(dropped=self._drop(dask_cluster))
                if self._channel:
                    self._channel.exit(0)

    def _tell(self, offered: bool, endpoint: Endpoint) -> None:
        self._say(event="offered" if offered else "gone", cluster=endpoint.dask_cluster, service=str(endpoint.service))

    def _say(self, **facts: object) -> None:
        if self._channel is None:
            return
        with suppress(OSError):
            self._channel.write(json.dumps(facts) + "\n")
        if self._channel.get_write_buffer_size() > EVENTS_BACKLOG:
            self._channel.abort()
