"""The hop between the hub and a registry of images: its manifests and configurations, by the OCI distribution specification 1.1.

Promises: an answer within its limits of time and size, or an :class:`~af_hub.errors.ImageRefused` with a sentence for the person; nothing but
the registry's own origin and its token server ever sees the credentials, and neither is taken on its word (:mod:`af_hub.registry.challenge`).
Leaves to the caller which registry may be asked at all, and to :mod:`af_hub.registry.proof` what the answers mean.
"""

import base64
import logging
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from af_hub.errors import ImageRefused
from af_hub.files import Stamp, stamp
from af_hub.registry.challenge import Challenge, may_ask_token, may_redirect, origin_of, read_challenge
from af_hub.registry.proof import INDEXES, MANIFESTS, Document, nonsense, read_json
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import HUB, Reference

log = logging.getLogger(__name__)

# Docker's registry does not answer at the name that its images have.
OWN_NAMES = {HUB: "https://registry-1.docker.io"}
MOST_BYTES = 4 * 2**20
MOST_REDIRECTS = 3
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 8.0
REDIRECTS = (301, 302, 303, 307, 308)


class RegistrySettings(Protocol):
    """One entry of ``registries`` in ``facility.yaml``."""

    @property
    def address(self) -> str | None:
        """None: at its own name, with https."""

    @property
    def ca_file(self) -> str:
        """The authority behind its certificate."""

    @property
    def credentials_file(self) -> str:
        """File with ``user:password``."""


@dataclass(frozen=True)
class Access:
    """How one registry is asked."""

    address: str
    ca_file: str = ""
    basic: str = field(default="", repr=False)


def access_to(registry: str, settings: RegistrySettings | None) -> Access:
    """The registry's address without a slash behind, and its credentials as they are now.

    Raises
    ------
    ImageRefused
        When the file with the credentials is not right; what is wrong stands in the log.
    """
    own = OWN_NAMES.get(registry, f"https://{registry}")
    if settings is None:
        return Access(own)
    address = own if settings.address is None else settings.address.rstrip("/")
    return Access(address, settings.ca_file, _basic(registry, settings.credentials_file))


def _basic(registry: str, path: str) -> str:
    if not path:
        return ""
    try:
        mode, line = Path(path).stat().st_mode, Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _not_set_up(registry, f"{path} cannot be read ({type(error).__name__}); put it there") from error
    if mode & 0o007:
        raise _not_set_up(registry, f"{path} can be read by everybody (mode {mode & 0o777:o}); chmod 0600")
    user, colon, password = line.partition(":")
    if not (user and colon and password) or "\n" in line:
        raise _not_set_up(registry, f"{path} does not hold `user:password` in one line; write it so")
    return f"Basic {base64.b64encode(line.encode()).decode()}"


def _not_set_up(registry: str, what: str) -> ImageRefused:
    log.error("registries.%s of facility.yaml: %s", registry, what)
    return ImageRefused(
        f"This facility is not set up rightly for {registry}; its log says why.", ImageReason.UNREADABLE
    )


@lru_cache(maxsize=16)
def trust(ca_file: str, _stamp: Stamp) -> ssl.SSLContext:
    """The authorities in this file as it is now, the machine's when there is none; kept, since reading them holds up the hub for a tenth of a second."""
    return ssl.create_default_context(cafile=ca_file or None)


class RegistryClient(AbstractAsyncContextManager["RegistryClient"]):
    """Answers about one image; a context that closes its connections."""

    def __init__(self, reference: Reference, access: Access) -> None:
        self._reference, self._access, self._authorization = reference, access, ""

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust(), limit=2),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "af-hub"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    def _trust(self) -> ssl.SSLContext:
        try:
            ca_file = self._access.ca_file
            return trust(ca_file, stamp(Path(ca_file)) if ca_file else None)
        except OSError as error:
            raise _not_set_up(self._reference.registry, f"ca_file {self._access.ca_file}: {error}") from error

    async def manifest(self, which: str) -> Document:
        """The manifest, or the list of manifests, that this tag or digest names."""
        return await self._get(f"manifests/{which}", {"Accept": ", ".join((*MANIFESTS, *INDEXES))})

    async def blob(self, digest: str) -> Document:
        """A small thing of the image, such as its configuration."""
        return await self._get(f"blobs/{digest}", {})

    async def _get(self, what: str, headers: Mapping[str, str]) -> Document:
        url = f"{self._access.address}/v2/{self._reference.path}/{what}"
        try:
            status, document, wanted = await self._ask(url, headers)
            if status == 401 and await self._log_in(read_challenge(wanted)):
                status, document, _ = await self._ask(url, headers)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._away(error) from error
        if status != 200:
            raise self._refused(status)
        return document

    async def _ask(self, url: str, headers: Mapping[str, str]) -> tuple[int, Document, str]:
        """Status, content and ``WWW-Authenticate``; the authorization goes to the registry's own origin only."""
        for _ in range(MOST_REDIRECTS + 1):
            own = origin_of(url) == origin_of(self._access.address)
            sent = {**headers, "Authorization": self._authorization} if own and self._authorization else headers
            async with self._http.get(URL(url, encoded=True), headers=sent, allow_redirects=False) as answer:
                if answer.status not in REDIRECTS:
                    content = await self._content(answer) if answer.status == 200 else b""
                    document = Document(content, answer.headers.get("Content-Type", ""))
                    return answer.status, document, answer.headers.get("WWW-Authenticate", "")
                url = urljoin(url, answer.headers.get("Location", ""))
            if not may_redirect(self._access.address, url):
                log.warning(
                    "%s sends to %.200r for %s, which is not followed", self._reference.registry, url, self._reference
                )
                raise nonsense(self._reference)
        raise nonsense(self._reference)

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        """All of it, when it is not too much."""
        content = bytearray()
        async for part in answer.content.iter_chunked(2**16):
            content += part
            if len(content) > MOST_BYTES:
                raise nonsense(self._reference)
        return bytes(content)

    async def _log_in(self, challenge: Challenge) -> bool:
        """Get what the challenge wants; whether asking again makes sense."""
        if self._authorization:
            return False
        if challenge.scheme == "basic":
            self._authorization = self._access.basic
        elif challenge.scheme == "bearer":
            self._authorization = await self._token(challenge)
        return bool(self._authorization)

    async def _token(self, challenge: Challenge) -> str:
        """A token that lets this repository be read, for whoever the credentials name, or for anybody; empty when there is none."""
        registry = self._reference.registry
        if not may_ask_token(self._access.address, challenge.realm):
            log.warning(
                "%s wants a token of %.200r, which is another's address and is not asked", registry, challenge.realm
            )
            return ""
        query = {"service": challenge.service, "scope": f"repository:{self._reference.path}:pull"}
        headers = {"Authorization": self._access.basic} if self._access.basic else {}
        url = URL(challenge.realm).update_query({key: value for key, value in query.items() if value})
        async with self._http.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status >= 500 or answer.status == 429:
                raise self._refused(answer.status)
            if answer.status != 200:
                log.warning("the token server of %s refuses (%d)", registry, answer.status)
                return ""
            found = read_json(Document(await self._content(answer)), "", self._reference)
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise nonsense(self._reference)
        return f"Bearer {token}"

    def _refused(self, status: int) -> ImageRefused:
        """What a status other than 200 means for the person."""
        registry, name = self._reference.registry, str(self._reference)
        if status == 404:
            sentence = f"{name} is not there: {registry} has no such image, or shows it to others only."
            return ImageRefused(sentence, ImageReason.MISSING)
        if status in (401, 403):
            sentence = f"{registry} does not show {name} to this facility: it is not there, or private."
            return ImageRefused(sentence, ImageReason.UNREADABLE)
        why = "it is asked too often" if status == 429 else f"status {status}"
        return ImageRefused(f"{registry} does not answer now when asked for {name} ({why}).", ImageReason.AWAY)

    def _away(self, error: Exception) -> ImageRefused:
        log.warning(
            "%s does not answer for %s: %s: %.300a",
            self._access.address,
            self._reference,
            type(error).__name__,
            str(error),
        )
        return away(
            self._reference, "no connection" if isinstance(error, aiohttp.ClientConnectionError) else "no answer"
        )


def away(reference: Reference, why: str) -> ImageRefused:
    """What to say of a registry that cannot be reached."""
    return ImageRefused(
        f"{reference.registry} does not answer now when asked for {reference} ({why}).", ImageReason.AWAY
    )
