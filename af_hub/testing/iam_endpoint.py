"""The demo IAM's token endpoint: one answer for each grant (RFC 6749, 8628, 8693).

A refresh is refused as INDIGO IAM does it: the account is suspended, or its agreement is not signed.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import jwt
from aiohttp import web

from af_hub.testing.iam_device import DevicePages
from af_hub.testing.iam_exchange import decide_exchange
from af_hub.testing.iam_login import LoginPages
from af_hub.testing.iam_oauth import DEVICE_GRANT, EXCHANGE_GRANT, DemoClient, Fault, check_scopes
from af_hub.testing.iam_tokens import DemoUser

if TYPE_CHECKING:
    from af_hub.testing.iam import DemoIAM

Form = Mapping[str, str]
Answer = dict[str, object]
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


class TokenEndpoint:
    """``/token``."""

    def __init__(self, iam: "DemoIAM", logins: LoginPages, devices: DevicePages) -> None:
        self.iam, self._logins, self._devices = iam, logins, devices
        self._grants: dict[str, Callable[[DemoClient, Form], Answer]] = {
            "authorization_code": self._redeem,
            "refresh_token": self._refresh,
            "client_credentials": self._own,
            DEVICE_GRANT: self._device,
            EXCHANGE_GRANT: self._exchange,
        }

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.post("/token", self._token)]

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        client = self.iam.client_of(request.headers.get("Authorization", ""), form)
        grant = form.get("grant_type", "")
        self.iam.asked.append(grant.rpartition(":")[2])
        if grant not in self._grants:
            raise Fault("unsupported_grant_type", f"{grant!r} is not offered")
        if grant not in client.grants:
            raise Fault("unauthorized_client", f"this client may not use {grant}")
        return web.json_response(self._grants[grant](client, form), headers={"Cache-Control": "no-store"})

    def _redeem(self, client: DemoClient, form: Form) -> Answer:
        login, user = self._logins.redeem(client, form)
        return self._logged_in(user, client, login.scopes, login.nonce)

    def _device(self, client: DemoClient, form: Form) -> Answer:
        user, scopes = self._devices.redeem(client, form)
        return self._logged_in(user, client, scopes, "")

    def _logged_in(self, user: DemoUser, client: DemoClient, scopes: tuple[str, ...], nonce: str) -> Answer:
        answer = self.iam.access(user, client, scopes)
        if "openid" in scopes:
            answer["id_token"] = self.iam.id_token(user, client, scopes, nonce)
        if "offline_access" in scopes:
            answer["refresh_token"] = self.iam.grant(client, user.username, scopes)
        return answer

    def _refresh(self, client: DemoClient, form: Form) -> Answer:
        token = form.get("refresh_token", "")
        grant = self.iam.grants.get(token)
        in_grace = grant is not None and token == grant.before and self.iam.clock() < grant.rotated_at + self.iam.grace
        if grant is not None and grant.good != token and not in_grace:
            grant.revoked = True  # RFC 9700, section 4.14.2: an old one used again ends the family.
            self.iam.save()
        if grant is None or grant.revoked or grant.client.client_id != client.client_id:
            raise Fault("invalid_grant", "the refresh token is unknown, used before or revoked")
        user = self._may_go_on(self.iam.users.get(grant.username))
        scopes = tuple(form["scope"].split()) if form.get("scope") else grant.scopes
        check_scopes(scopes, grant.scopes, "a refresh")
        if not client.reuse_refresh_tokens:
            grant.before, grant.rotated_at = token, self.iam.clock()
            grant.good = secrets.token_urlsafe(32)
            self.iam.grants[grant.good] = grant
            self.iam.save()
        return {**self.iam.access(user, client, scopes, form.get("audience")), "refresh_token": grant.good}

    def _own(self, client: DemoClient, form: Form) -> Answer:
        scopes = tuple(form.get("scope", "").split()) or client.scopes
        check_scopes(scopes, set(client.scopes) - {"offline_access", "openid"}, "a client by itself")
        return self.iam.access(None, client, scopes, form.get("audience"))

    def _exchange(self, client: DemoClient, form: Form) -> Answer:
        try:
            shown = self.iam.verified(form.get("subject_token", ""))
        except (jwt.InvalidTokenError, KeyError) as error:
            raise Fault("invalid_grant", "the subject token is not valid") from error
        origin = self.iam.clients.get(str(shown["client_id"]))
        user = self._may_go_on(self.iam.user_of(str(shown["sub"])))
        if origin is None:
            raise Fault("invalid_grant", "the subject token's client is gone")
        held = tuple(str(shown["scope"]).split())
        scopes = decide_exchange(form, held, origin, client, self.iam.exchanges)
        answer = self.iam.access(user, client, scopes, form.get("audience"), act={"sub": client.client_id})
        if "offline_access" in scopes:
            answer["refresh_token"] = self.iam.grant(client, user.username, scopes)
        return {**answer, "issued_token_type": JWT_TYPE}

    def _may_go_on(self, user: DemoUser | None) -> DemoUser:
        """The user, who may still be served without a login page."""
        if user is None:
            raise Fault("invalid_grant", "there is no such user any more")
        if not user.active:
            raise Fault("invalid_grant", f"User {user.username} is not active.")
        if not user.signed:
            sentence = f"User {user.username} needs to sign AUP for this organization in order to proceed."
            raise Fault("invalid_grant", sentence)
        return user
