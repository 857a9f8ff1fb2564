"""What the demo IAM tells of tokens and takes back: userinfo (OpenID Connect Core 1.0), introspection (RFC 7662), revocation (RFC 7009)."""

from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web

from af_hub.testing.iam_oauth import Fault
from af_hub.testing.iam_tokens import person_claims, profile_of

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM


class Inspection:
    """``/userinfo``, ``/introspect`` and ``/revoke``."""

    def __init__(self, iam: "DemoIAM") -> None:
        self.iam = iam

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/userinfo", self._userinfo),
            web.post("/userinfo", self._userinfo),
            web.post("/introspect", self._introspect),
            web.post("/revoke", self._revoke),
        ]

    async def _userinfo(self, request: web.Request) -> web.Response:
        self.iam.asked.append("userinfo")
        claims = bearer(self.iam, request)
        user = self.iam.user_of(str(claims["sub"]))
        scopes = str(claims.get("scope", "")).split()
        if user is None or "openid" not in scopes:
            raise Fault("invalid_token", "the access token is not for userinfo", 401)
        told = person_claims(user, scopes, profile_of(scopes, self.iam.profile)) | self.iam.told
        return web.json_response({name: value for name, value in told.items() if value is not None})

    async def _introspect(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.iam.client_of(request.headers.get("Authorization", ""), form)
        self.iam.asked.append("introspect")
        return web.json_response(self._about(form.get("token", "")), headers={"Cache-Control": "no-store"})

    def _about(self, token: str) -> dict[str, Any]:
        grant = self.iam.grants.get(token)
        if grant is not None and grant.good == token and not grant.revoked:
            user = self.iam.users.get(grant.username)
            about: dict[str, Any] = {"client_id": grant.client.client_id, "scope": " ".join(grant.scopes)}
            return about | {"active": True, "iss": self.iam.issuer, "sub": user.subject if user else ""}
        try:
            claims = self.iam.verified(token)
        except (jwt.InvalidTokenError, KeyError):
            return {"active": False}
        user = self.iam.user_of(str(claims["sub"]))
        name = {"username": user.username} if user else {}
        return {**claims, **name, "active": True, "token_type": "Bearer"}

    async def _revoke(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        client = self.iam.client_of(request.headers.get("Authorization", ""), form)
        self.iam.asked.append("revoke")
        token = form.get("token", "")
        if not token:
            raise Fault("invalid_request", "there is no token to revoke")
        grant = self.iam.grants.get(token)
        if grant is not None:
            self._check_owner(grant.client.client_id, client.client_id)
            grant.revoked = True
            self.iam.save()
            return web.Response()
        try:
            claims = self.iam.verified(token)
        except (jwt.InvalidTokenError, KeyError):
            return web.Response()  # an invalid token is no error (section 2.2)
        self._check_owner(str(claims["client_id"]), client.client_id)
        self.iam.revoked.add(str(claims["jti"]))
        return web.Response()

    def _check_owner(self, owner: str, asking: str) -> None:
        if owner != asking:
            raise Fault("unauthorized_client", "the token was given to another client")


def bearer(iam: "DemoIAM", request: web.Request) -> dict[str, Any]:
    """The claims of the access token in the request's header; :class:`Fault` 401 when it is not good."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        return iam.verified(token if kind == "Bearer" else "")
    except (jwt.InvalidTokenError, KeyError) as error:
        raise Fault("invalid_token", "the access token is not valid", 401) from error
