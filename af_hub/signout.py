"""Signing out: the hop from the hub back to nobody.

Promises: the browser's login at the hub is over; when the facility wants it (``revoke_at_logout``) the hub forgets the person's tokens and
tells the IAM so (RFC 7009), whether or not the IAM answers; the page says what goes on running and until when, and leads on to the IAM,
whose own login the hub cannot end (OpenID Connect RP-Initiated Logout 1.0). No token is in that address: without one the IAM asks the
person, which is right. Another site's link or picture signs nobody out.
"""

import time
from typing import Any
from urllib.parse import urlencode

from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import OAuthLogoutHandler

from af_hub.errors import AFError
from af_hub.iam.endpoint import IAMClient
from af_hub.tokens.notice import clock


class IAMLogoutHandler(OAuthLogoutHandler):  # type: ignore[misc]
    """``/hub/logout``."""

    async def get(self) -> None:
        """Sign out, unless it is not the person who wants that."""
        if self.request.headers.get("Sec-Fetch-Site") == "cross-site":
            self.log.warning("a page of another site wanted to sign somebody out")
            self.redirect(url_path_join(self.hub.base_url, "home"))
            return
        await super().get()

    async def handle_logout(self) -> None:
        """Forget tokens when the facility wants that; JupyterHub has cleared its cookies already."""
        await super().handle_logout()
        self._person: str = self.current_user.name if self.current_user else ""
        self._until = self.authenticator.keeper.token_ends(self._person)
        self._revoked = bool(self._person) and self.authenticator.revoke_at_logout
        if self._revoked:
            await self.authenticator.forget(self._person)

    async def render_logout_page(self) -> None:
        """Say what has ended and what has not."""
        if self.authenticator.logout_redirect_url:
            await super().render_logout_page()
            return
        now = time.time()
        until = clock(self._until, now) if self._until and self._until > now else ""
        page = await self.render_template(
            "signed_out.html", until=until, revoked=self._revoked, at_iam=await self._at_iam(), no_announcement=True
        )
        self.set_header("Cache-Control", "no-store")
        self.finish(page)

    async def _at_iam(self) -> dict[str, str] | None:
        """Title and address of the IAM's own end of login; None when it has none, or does not answer."""
        record = self.authenticator.keeper.record(self._person)
        issuer = self.authenticator.policy.issuer(record.claims.issuer) if record else None
        if issuer is None:
            return None
        client: IAMClient = self.authenticator.clients[issuer.issuer]
        try:
            address = (await client.discovery.metadata()).end_session_endpoint
        except AFError:
            return None
        return (
            {"title": issuer.label, "address": end_session(address, client.client_id, self._back())}
            if address
            else None
        )

    def _back(self) -> str:
        """The login page, for an IAM that sends people back."""
        own: Any = self.authenticator.oauth_callback_url
        return own.removesuffix("oauth_callback") + "login" if own.endswith("/oauth_callback") else ""


def end_session(address: str, client_id: str, back: str) -> str:
    """Where to end the login at the IAM (RP-Initiated Logout 1.0, section 2)."""
    query = {"client_id": client_id, **({"post_logout_redirect_uri": back} if back else {})}
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"
