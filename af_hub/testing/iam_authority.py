"""What is true at the demo IAM and what it signs: people, clients, keys, grants; no network.

:class:`~af_hub.testing.iam.DemoIAM` serves it. Tests change what is true while it runs.
"""

import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt

from af_hub.testing.iam_oauth import DemoClient, Fault, Grant, client_credentials, read_client
from af_hub.testing.iam_state import read_state, write_state
from af_hub.testing.iam_tokens import DemoUser, SigningKeys, access_claims, person_claims, profile_of

ISSUER = "https://iam.af-hub.test/"
ID_TOKEN_SECONDS = 600
NARROW_SECONDS = 600


class Authority:
    """Who there is, and what is signed in their name; ``users`` and ``clients`` are plain dicts by name.

    Parameters
    ----------
    issuer
        The stable name in all tokens; not where it listens.
    lifetime
        Of access tokens, in seconds. Tokens for one audience live at most ``NARROW_SECONDS``.
    algorithm
        ``RS256`` or ``ES256``.
    profile
        ``wlcg`` or ``iam``; a client that asks for one of these as a scope gets that one.
    state
        File (0600) for keys and refresh tokens, so that an IAM which is started anew is the same; kept in memory only when None.
    """

    keys: SigningKeys
    forged: dict[str, object]
    forged_algorithm: str | None

    def __init__(
        self,
        users: Iterable[DemoUser],
        clients: Iterable[DemoClient],
        *,
        issuer: str = ISSUER,
        lifetime: float = 3600,
        algorithm: str = "RS256",
        profile: str = "wlcg",
        clock: Callable[[], float] = time.time,
        state: Path | None = None,
    ) -> None:
        self.users = {user.username: user for user in users}
        self.clients = {client.client_id: client for client in clients}
        self.issuer, self.lifetime = issuer, lifetime
        self.algorithm, self.profile, self.clock = algorithm, profile, clock
        self._file = state
        self.keys, self.grants = read_state(state, self.clients)
        self.save()
        self.revoked: set[str] = set()
        self.forged, self.forged_algorithm = {}, None

    # --- what it signs, and knows again

    def mint(
        self,
        username: str,
        scope: str = "openid profile email wlcg.groups",
        audience: str | None = None,
        lifetime: float | None = None,
        client_id: str = "minted",
        algorithm: str | None = None,
        profile: str | None = None,
        **changed: object,
    ) -> str:
        """An access token of this user, with any claim ``changed`` (None leaves it out); for tests."""
        claims = self._claims(self.users[username], client_id, tuple(scope.split()), audience, lifetime, profile)
        return self.sign({**claims, **changed}, algorithm)

    def _claims(
        self,
        user: DemoUser | None,
        client_id: str,
        scopes: tuple[str, ...],
        audience: str | None,
        lifetime: float | None,
        profile: str | None = None,
    ) -> dict[str, object]:
        return access_claims(
            user,
            issuer=self.issuer,
            client_id=client_id,
            scopes=scopes,
            audience=audience,
            profile=profile or profile_of(scopes, self.profile),
            now=self.clock(),
            lifetime=self.lifetime if lifetime is None else lifetime,
        )

    def sign(self, claims: Mapping[str, object], algorithm: str | None = None) -> str:
        """Any claims, signed with our key; those that are None are left out."""
        return self.keys.sign(
            {key: value for key, value in claims.items() if value is not None}, algorithm or self.algorithm
        )

    def access(
        self,
        user: DemoUser | None,
        client: DemoClient,
        scopes: tuple[str, ...],
        audience: str | None = None,
        **more: object,
    ) -> dict[str, object]:
        """The answer of the token endpoint, with claims that are ``more``; the token is the client's own when there is no user."""
        lifetime = min(self.lifetime, NARROW_SECONDS) if audience else self.lifetime
        token = self.sign({**self._claims(user, client.client_id, scopes, audience or None, lifetime), **more})
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(lifetime), "scope": " ".join(scopes)}

    def id_token(self, user: DemoUser, client: DemoClient, scopes: tuple[str, ...], nonce: str) -> str:
        """Who logged in, as a test wants it forged."""
        now = int(self.clock())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        if nonce:
            claims["nonce"] = nonce
        claims |= person_claims(user, scopes, profile_of(scopes, self.profile))
        return self.sign({**claims, **self.forged}, self.forged_algorithm)

    def grant(self, client: DemoClient, username: str, scopes: tuple[str, ...]) -> str:
        """A refresh token, as a login gives it."""
        token = secrets.token_urlsafe(32)
        self.grants[token] = Grant(client, username, scopes, good=token)
        self.save()
        return token

    def verified(self, token: str) -> dict[str, Any]:
        """The claims of an access token of ours that is still good."""
        claims = self.read_token(token)
        if claims["exp"] <= self.clock():
            raise jwt.ExpiredSignatureError("expired")
        if claims["jti"] in self.revoked:
            raise jwt.InvalidTokenError("revoked")
        return claims

    def read_token(self, token: str) -> dict[str, Any]:
        """The claims of any token that we signed, though it be too old."""
        keys = jwt.PyJWKSet.from_dict(self.keys.published())
        key = keys[str(jwt.get_unverified_header(token).get("kid"))]
        options: Any = dict.fromkeys(("verify_aud", "verify_exp", "verify_iat", "verify_nbf"), False)  # our clock
        return dict(jwt.decode(token, key, algorithms=["RS256", "ES256"], issuer=self.issuer, options=options))

    def client_of(self, authorization: str, form: Mapping[str, str]) -> DemoClient:
        """The client that asks; :class:`Fault` when it does not know its secret."""
        client_id, secret = client_credentials(authorization, form)
        client = self.clients.get(client_id)
        if client is None or not secrets.compare_digest(client.client_secret.encode(), secret.encode()):
            raise Fault("invalid_client", "client id and secret do not belong together", 401)
        return client

    def user_of(self, subject: str) -> DemoUser | None:
        """Who has this subject."""
        return next((user for user in list(self.users.values()) if user.subject == subject), None)

    # --- what tests change

    def add_client(self, client: Mapping[str, Any]) -> None:
        """One more client, as it would stand in the clients file."""
        self.clients[client["client_id"]] = read_client(client)

    def rename(self, username: str, new: str) -> DemoUser:
        """The same person under another name; logins go on."""
        user = replace(self.users.pop(username), username=new)
        self.users[new] = user
        for grant in self.grants.values():
            if grant.username == username:
                grant.username = new
        self.save()
        return user

    def regroup(self, username: str, *groups: str) -> DemoUser:
        """The person is in these groups from now on."""
        user = self.users[username] = replace(self.users[username], groups=groups)
        return user

    def suspend(self, username: str, suspended: bool = True) -> None:
        """The account may be used no longer."""
        self.users[username] = replace(self.users[username], active=not suspended)

    def unsign(self, username: str) -> None:
        """The agreement has changed, and this person has not signed the new one."""
        self.users[username] = replace(self.users[username], signed=False)

    def refresh_tokens(self) -> set[str]:
        """All that were ever given, for tests that look where they lie."""
        return set(self.grants)

    def revoke(self, username: str) -> None:
        """Every refresh token of this user is void from now on."""
        for grant in self.grants.values():
            if grant.username == username:
                grant.revoked = True
        self.save()

    def rotate_keys(self, keep: bool = True) -> None:
        """Sign with new keys from now on. The old ones stay published if ``keep``, else what they signed is good no longer."""
        self.keys.rotate(keep)
        self.save()

    def save(self) -> None:
        """Write down what must outlive a restart."""
        if self._file is not None:
            write_state(self._file, self.keys, self.grants)
