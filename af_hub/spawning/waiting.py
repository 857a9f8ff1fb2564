"""Waiting until a person's server answers, wherever it runs."""

import asyncio
from urllib.parse import urlsplit

from jupyterhub.utils import url_path_join, wait_for_http_server

LOOK_SECONDS = 0.1
"""How often a session that starts is looked at."""


async def comes_up(url: str, base_url: str, seconds: float) -> bool:
    """Whether the server at ``url`` answers below ``base_url`` within that time."""
    address = urlsplit(url)
    try:
        async with asyncio.timeout(seconds):
            while not await _listens(address.hostname or "", address.port or 80):  # noqa: ASYNC110 (it tells nobody by itself)
                await asyncio.sleep(LOOK_SECONDS)
            await wait_for_http_server(url_path_join(url, base_url, "api"), timeout=seconds)
    except TimeoutError:
        return False
    return True


async def _listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
