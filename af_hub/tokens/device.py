"""Login from a laptop: the hop between ``af login`` and the IAM, below ``/hub/api/af/``.

::

    POST device {"name"?, "issuer"?}     begin: what to type where, and the id and secret of this wait
    POST device/{id} {"secret"}          202 still waiting, 200 a hub token of the person who said yes

The hub is the IAM's client (device flow, RFC 8628): client secret, device code, refresh token and the IAM's tokens stay here, the laptop
gets a token of the hub alone, with all that its owner may do, for a day or so. It is given once, after the policy let the person in and the keeper
has enrolled them, as at a login with a browser. Who asks is nobody yet, so both are open to everybody; how many may wait at a time is bounded, in
all and for each address, and the IAM is asked no more often than it wants.

400 the request is wrong; 403 the policy does not let this person in; 404 this hub does no such logins; 410 the person said no, nobody said
anything in time, the token was given already, or the hub was restarted since; 429 too many wait already; 503 the IAM does not answer, and
the wait goes on.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any, Protocol

from tornado import web

from af_hub.errors import AFError, ClaimsError, IAMRefused, LoginRequired, Refused, TokenRejected
from af_hub.iam.device import PENDING, SLOW_DOWN, DeviceStart
from af_hub.iam.endpoint import IAMClient
from af_hub.tokens.endpoint import AFHandler

log = logging.getLogger(__name__)

MOST_IN_ALL, MOST_OF_ONE = 200, 20
SLOWER_SECONDS = 5.0
NAME_CHARACTERS = 60


@dataclass
class Wait:
    """One login that somebody's terminal waits for.

    Parameters
    ----------
    source
        The address that began it.
    name
        What that machine calls itself; stands in the list of the person's tokens.
    ask_at
        When the IAM may be asked next.
    """

    start: DeviceStart
    client: IAMClient
    source: str
    name: str
    until: float
    interval: float
    ask_at: float
    secret: str = field(repr=False, default_factory=lambda: secrets.token_urlsafe(32))
    asking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


class Waits:
    """Logins that are under way; in memory only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waits: dict[str, Wait] = {}
        self._beginning: list[str] = []

    @contextmanager
    def room(self, source: str) -> Iterator[bool]:
        """Whether one more may begin at this address; it has its place while the IAM is asked, since many may come at one moment."""
        now = self._clock()
        self._waits = {key: wait for key, wait in self._waits.items() if wait.until > now}
        sources = [*self._beginning, *(wait.source for wait in self._waits.values())]
        if len(sources) >= MOST_IN_ALL or sources.count(source) >= MOST_OF_ONE:
            yield False
            return
        self._beginning.append(source)
        try:
            yield True
        finally:
            self._beginning.remove(source)

    def begin(self, start: DeviceStart, client: IAMClient, source: str, name: str) -> tuple[str, Wait]:
        """Remember it; its id is no secret."""
        now, key = self._clock(), secrets.token_hex(8)
        wait = Wait(start, client, source, name, now + start.seconds, start.interval, now + start.interval)
        self._waits[key] = wait
        return key, wait

    def find(self, key: str, secret: str) -> Wait | None:
        """The wait of this id; None when there is none, its time is over, or this is not its secret."""
        wait = self._waits.get(key)
        if wait is None or not hmac.compare_digest(wait.secret.encode(), secret.encode(errors="replace")):
            return None
        if wait.until <= self._clock():
            del self._waits[key]
            return None
        return wait

    def may_ask(self, wait: Wait) -> bool:
        """Whether the IAM may be asked now; whoever is told yes asks."""
        now = self._clock()
        if now < wait.ask_at:
            return False
        wait.ask_at = now + wait.interval
        return True

    def slow_down(self, wait: Wait) -> None:
        """The IAM wants to be asked less often (RFC 8628, section 3.5)."""
        wait.interval += SLOWER_SECONDS
        wait.ask_at = self._clock() + wait.interval

    def end(self, key: str) -> None:
        """It is over; may be said twice."""
        self._waits.pop(key, None)


class DeviceSource(Protocol):
    """What these handlers ask of the hub's authenticator."""

    waits: Waits
    device_token_seconds: int

    def device_client(self, issuer: str) -> IAMClient:
        """The hub's client at the issuer of this name, or at the only one."""

    def scopes_for(self, issuer: str) -> list[str]:
        """What a login at this issuer (its ``iss``) asks for."""

    async def device_login(self, client: IAMClient, device_code: str) -> dict[str, Any]:
        """What JupyterHub learns of the person who said yes."""


class DeviceHandler(AFHandler):
    """What both have in common."""

    @property
    def source(self) -> DeviceSource:
        """Our authenticator."""
        source: DeviceSource = self.authenticator
        if source.device_token_seconds <= 0:
            raise web.HTTPError(404, "This hub gives no tokens to laptops; sign in with a browser.")
        return source

    def body(self, *known: str) -> dict[str, str]:
        """The request's JSON: texts under known names."""
        found = self.get_json_body() or {}
        if not isinstance(found, dict) or set(found) - set(known):
            raise web.HTTPError(400, f"The body must be a JSON object with no more than {', '.join(known)}.")
        if wrong := [name for name, value in found.items() if not isinstance(value, str) or len(value) > 200]:
            raise web.HTTPError(400, f"{', '.join(wrong)} must be a text of at most 200 characters.")
        return found


class BeginHandler(DeviceHandler):
    """``POST device``."""

    async def post(self) -> None:
        """Begin a login."""
        asked, source = self.body("name", "issuer"), self.source
        address = neighbourhood(str(self.request.remote_ip))
        name = "".join(one for one in asked.get("name", "") if one.isprintable())[:NAME_CHARACTERS]
        with source.waits.room(address) as free:
            if not free:
                raise web.HTTPError(429, "Too many logins by code are under way here. Try again in a few minutes.")
            client, start = await self._begun(asked.get("issuer", ""))
            key, wait = source.waits.begin(start, client, address, name)
        self.answer(
            {
                "id": key,
                "secret": wait.secret,
                "user_code": start.user_code,
                "verification_uri": start.address,
                "verification_uri_complete": start.whole_address,
                "expires_in": start.seconds,
                "interval": start.interval,
            }
        )

    async def _begun(self, issuer: str) -> tuple[IAMClient, DeviceStart]:
        """A login that begins at the issuer of this name."""
        source = self.source
        try:
            client = source.device_client(issuer)
            return client, await client.begin_device(" ".join(source.scopes_for(client.discovery.issuer)))
        except Refused as error:
            raise web.HTTPError(400, str(error)) from error
        except AFError as error:
            raise web.HTTPError(503, str(error)) from error


class PollHandler(DeviceHandler):
    """``POST device/{id}``."""

    async def post(self, key: str) -> None:
        """Whether somebody said yes; then their hub token."""
        source = self.source
        wait = source.waits.find(key, self.body("secret").get("secret", ""))
        if wait is None:
            raise web.HTTPError(410, "No login waits under this id. Begin again.")
        async with wait.asking:
            if source.waits.find(key, wait.secret) is None:
                raise web.HTTPError(410, "This login is done. Begin again.")
            model = await self._login(key, wait) if source.waits.may_ask(wait) else None
            if model is None:
                self.set_status(202)
                self.answer({"interval": wait.interval})
                return
            source.waits.end(key)
            await self._give_token(model, wait)

    async def _login(self, key: str, wait: Wait) -> dict[str, Any] | None:
        """What JupyterHub learns of the person; None while nobody has said yes or no."""
        try:
            return await self.source.device_login(wait.client, wait.start.device_code)
        except IAMRefused as error:
            if error.code == SLOW_DOWN:
                self.source.waits.slow_down(wait)
            if error.code in (PENDING, SLOW_DOWN):
                return None
            self.source.waits.end(key)
            raise web.HTTPError(410, said_no(error.code)) from error
        except LoginRequired as error:
            self.source.waits.end(key)
            raise web.HTTPError(410, said_no("")) from error
        except (Refused, ClaimsError, TokenRejected) as error:
            self.source.waits.end(key)
            log.warning("login by code refused: %s", error)
            raise web.HTTPError(403, str(error)) from error
        except AFError as error:
            raise web.HTTPError(503, str(error)) from error

    async def _give_token(self, model: dict[str, Any], wait: Wait) -> None:
        """A token of the hub for the person, who is made known to JupyterHub as at any login."""
        user = await self.auth_to_user(model)
        self.about = user.name
        seconds = self.source.device_token_seconds
        if most := self.settings.get("token_expires_in_max_seconds"):
            seconds = min(seconds, most)
        note = f"af login on {wait.name}" if wait.name else "af login"
        token = user.new_api_token(note=note, expires_in=seconds)
        self.answer({"token": token, "username": user.name, "expires_at": time.time() + seconds})


def neighbourhood(address: str) -> str:
    """What one machine can call itself: its address, and with IPv6 the whole network of 2⁶⁴ addresses that it is given."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return address
    return str(found.ipv4_mapped or ip_network((int(found), 64), strict=False))


def said_no(code: str) -> str:
    """Why the IAM gives no login, for the person."""
    reasons = {
        "access_denied": "You, or the IAM, did not allow the hub to know who you are. Nothing has changed.",
        "expired_token": "Nobody typed the code in time. Begin again.",
    }
    return reasons.get(code, "The IAM no longer knows this login. Begin again.")


DEVICE_HANDLERS = [
    (r"/api/af/device", BeginHandler),
    (r"/api/af/device/([0-9a-f]{16})", PollHandler),
]
