"""Run a notebook in a kernel of somebody's JupyterLab, over HTTP and WebSocket, as the page in a browser does.

Protocol: Jupyter Server's REST API for kernels, and Jupyter messaging 5.4 over its WebSocket (JSON text frames).
"""

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from af_hub.errors import AFError
from af_hub.testing.browser import xsrf_headers

ANSI = re.compile(r"\x1b\[[0-9;]*m")


class CellFailed(AFError):
    """A cell of the notebook raised; the message is the kernel's."""


@dataclass
class Kernel:
    """One kernel of one server: runs code, gives what was printed.

    Parameters
    ----------
    client
        A browser session that is logged in and has opened the server's page.
    base
        Path of the server, as in ``/user/ada/``.
    id
        The kernel's, at the server.
    """

    client: httpx.Client
    base: str
    id: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    socket: ClientConnection = field(init=False, repr=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def connect(self) -> None:
        """Open the WebSocket, also again when it broke, as the page does: the kernel goes on meanwhile."""
        address = str(self.client.base_url.copy_with(scheme="ws")).rstrip("/")
        cookies = self.client.build_request("GET", f"{self.base}api/kernels").headers["Cookie"]
        self._open.close()
        self.socket = self._open.enter_context(
            connect(
                f"{address}{self.base}api/kernels/{self.id}/channels",
                additional_headers={"Cookie": cookies},
                origin=Origin(str(self.client.base_url).rstrip("/")),
                max_size=2**26,
                open_timeout=20,
                proxy=None,
            )
        )

    def disconnect(self) -> None:
        """Close the WebSocket, as a page that is closed does: the kernel goes on."""
        self._open.close()

    def run(self, code: str, timeout: float) -> str:
        """Run ``code`` and return what it printed, at most ``timeout`` seconds.

        Raises
        ------
        CellFailed
            When it raised or took too long.
        """
        message = self._execute_request(code)
        self.socket.send(json.dumps(message))
        printed: list[str] = []
        for reply in self._replies(message["header"]["msg_id"], timeout):
            content = reply["content"]
            if reply["msg_type"] == "stream":
                printed.append(content["text"])
            elif reply["msg_type"] in ("execute_result", "display_data"):
                printed.append(str(content["data"].get("text/plain", "")) + "\n")
            elif reply["msg_type"] == "error":
                raise CellFailed(ANSI.sub("", "\n".join(content["traceback"])))
            elif reply["msg_type"] == "status" and content["execution_state"] == "idle":
                return "".join(printed)
        raise CellFailed(f"the kernel's connection ended while it ran: {code[:80]!r}")

    def _execute_request(self, code: str) -> dict[str, Any]:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "session": self.session,
            "username": "",
            "version": "5.4",
        }
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        return {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
            "buffers": [],
        }

    def _replies(self, parent: str, timeout: float) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + timeout
        while True:
            try:
                text = self.socket.recv(timeout=max(0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise CellFailed(f"a cell did not end within {timeout:g} s") from error
            reply: dict[str, Any] = json.loads(text)
            if reply["parent_header"].get("msg_id") == parent and reply.get("channel") == "iopub":
                yield reply


@contextmanager
def open_kernel(client: httpx.Client, base: str) -> Iterator[Kernel]:
    """Start a kernel and end it again."""
    headers = xsrf_headers(client, base)
    started = client.post(f"{base}api/kernels", json={"name": "python3"}, headers=headers)
    started.raise_for_status()
    number = started.json()["id"]
    try:
        with Kernel(client, base, number) as kernel:
            yield kernel
    finally:
        client.delete(f"{base}api/kernels/{number}", headers=headers)
