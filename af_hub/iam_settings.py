"""What an administrator can set of login and tokens, and what is made of it: policy, clients, keeper, issuer, allowances.

The texts are the reference (docs/reference/authenticator-and-spawner.md). Leaves what is done with it to :mod:`af_hub.authenticator`.
"""

import time
from functools import cached_property
from pathlib import Path
from typing import Any

from jupyterhub.crypto import CryptKeeper
from oauthenticator.oauth2 import OAuthenticator
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, Integer, TraitError, Unicode, default, validate

from af_hub.allowances import Allowance, Limiter
from af_hub.errors import PolicyError, Unavailable
from af_hub.policy.load import PolicyFile, policy_file
from af_hub.policy.model import Policy
from af_hub.registry.prover import Prover
from af_hub.tokens.clients import IAMClients
from af_hub.tokens.device import Waits
from af_hub.tokens.issuer_keys import KeyFile
from af_hub.tokens.keeper import TokenKeeper
from af_hub.tokens.keys import fernet
from af_hub.tokens.own_issuer import OwnIssuer
from af_hub.tokens.purposes import Purpose, login_scopes, session_purpose
from af_hub.tokens.store import Store


class IAMSettings(OAuthenticator):  # type: ignore[misc]
    """The settings of :class:`af_hub.authenticator.IAMAuthenticator`."""

    policy_file = Unicode(
        "facility.yaml",
        help="""
        The file that says who may do what: which groups log in, and the images, sizes,
        condor accounts and limits they get. It also names the IAM.

        Read again when it changes; a broken edit keeps the policy in force and says so in
        the log. The hub does not start without one.

        Example::

            c.IAMAuthenticator.policy_file = "/etc/af-hub/facility.yaml"
        """,
    ).tag(config=True)

    client_secret_file = Unicode(
        help="""
        File that holds the secret of the hub's client at the IAM, mode 0600.

        Unset, ``client_secret`` is used as it is.

        Example::

            c.IAMAuthenticator.client_secret_file = "/etc/af-hub/client-secret"
        """,
    ).tag(config=True)

    database = Unicode(
        "keeper.sqlite",
        help="""
        File of the token keeper's own database: who logged in (in clear), and their tokens,
        encrypted with the keys of ``c.CryptKeeper.keys``. Made with mode 0600.

        Without those keys the hub does not start. To change keys put the new one first and
        keep the old one until everybody's tokens were refreshed once.

        Example::

            c.IAMAuthenticator.database = "/srv/af-hub/keeper.sqlite"
        """,
    ).tag(config=True)

    auth_refresh_age = Integer(
        300,
        help="""
        Seconds after which the rights of somebody who uses the hub are decided again, from
        groups that the IAM is asked for then. Must be more than 0: JupyterHub takes 0 for
        "never", whatever else is said.

        Example::

            c.IAMAuthenticator.auth_refresh_age = 120
        """,
    ).tag(config=True)

    device_token_seconds = Integer(
        86400,
        help="""
        Seconds that a token of the hub lives which ``af login`` gives to a laptop; 0 gives none. What may be done with it is decided
        anew all the time, as in a browser, and its owner can take it back on the hub's page of tokens.

        The hub's client at the IAM must allow the device flow.

        Example, for a working week::

            c.IAMAuthenticator.device_token_seconds = 5 * 86400
        """,
    ).tag(config=True)

    revoke_at_logout = Bool(
        False,
        help="""
        Whether signing out of the hub ends the person's login at the IAM for the hub too: the refresh token is revoked there and
        forgotten here.

        Then sessions and Dask clusters that still run get no fresh access tokens, and read no protected data within the hour, until the
        person logs in again. Without it they go on as if nothing had happened, since closing a browser is no reason to end a
        night's work.

        Example, for a place with shared screens and short work::

            c.IAMAuthenticator.revoke_at_logout = True
        """,
    ).tag(config=True)

    parallel_requests = Integer(
        8,
        min=1,
        max=64,
        help="""
        How many requests for tokens and groups the hub has at one IAM, at one time. It bounds what a restart of the hub, or the end of an
        outage, does to an IAM.

        Example, for an IAM that serves many::

            c.IAMAuthenticator.parallel_requests = 16
        """,
    ).tag(config=True)

    issuer_keys_file = Unicode(
        help="""
        File with the keys with which the hub signs tokens itself, where the policy says ``by: hub``; made with mode 0600 when it is first
        needed. Unset, ``issuer-keys.json`` beside the keeper's database.

        Example::

            c.IAMAuthenticator.issuer_keys_file = "/srv/af-hub/issuer-keys.json"
        """,
    ).tag(config=True)

    issuer_key_seconds = Integer(
        30 * 86400,
        min=2 * 86400,
        help="""
        For how long the hub signs with one key. The next one is published a day before, and the old one for two days after, so that nobody who
        verifies tokens need be told.

        Example::

            c.IAMAuthenticator.issuer_key_seconds = 90 * 86400
        """,
    ).tag(config=True)

    request_rate = Float(
        2.0,
        min=0.01,
        help="""
        How many requests a second one person may make at the hub's endpoints below ``/hub/api/af/`` in the long run, with all their tokens of the
        hub together. Whoever asks more is told to wait (429, with ``Retry-After``).

        Example::

            c.IAMAuthenticator.request_rate = 10
        """,
    ).tag(config=True)

    request_burst = Integer(
        60,
        min=1,
        help="""
        How many requests one person may make at once.

        Example::

            c.IAMAuthenticator.request_burst = 200
        """,
    ).tag(config=True)

    service_request_rate = Float(
        50.0,
        min=0.01,
        help="""
        As ``request_rate``, for a service: the controller asks for everybody who has a Dask cluster.

        Example::

            c.IAMAuthenticator.service_request_rate = 200
        """,
    ).tag(config=True)

    service_request_burst = Integer(
        2000,
        min=1,
        help="""
        How many requests a service may make at once. A controller that starts anew asks for each person who has a Dask cluster.

        Example::

            c.IAMAuthenticator.service_request_burst = 10000
        """,
    ).tag(config=True)

    waits = AnyTrait(help="Logins by code that are under way.")
    policy_source = AnyTrait(help="The PolicyFile in force.")
    clients = AnyTrait(help="The hub as a client of each issuer.")
    keeper = AnyTrait(help="The TokenKeeper.")
    own_issuer = AnyTrait(help="The OwnIssuer, which signs tokens for purposes that say so.")
    limiter = AnyTrait(help="The Limiter of the endpoints.")

    @default("waits")
    def _default_waits(self) -> Waits:
        return Waits()

    @default("policy_source")
    def _default_policy_source(self) -> PolicyFile:
        return policy_file(self.policy_file)

    @default("clients")
    def _default_clients(self) -> IAMClients:
        clients = IAMClients(lambda: self.policy, self.client_id, self.client_secret)
        try:
            dict(clients)
        except Unavailable as error:  # later that is one IAM's trouble; at the start somebody is looking
            raise PolicyError(str(error)) from error
        return clients

    @default("keeper")
    def _default_keeper(self) -> TokenKeeper:
        keys = [fernet(key) for key in CryptKeeper.instance().keys]
        if not keys:
            raise PolicyError(
                "the token keeper has no key: `af-hub keys new` makes one in the file that AF_CRYPT_KEY_FILE names; "
                "else set c.CryptKeeper.keys, or JUPYTERHUB_CRYPT_KEY"
            )
        store = Store(Path(self.database), keys)
        if resealed := store.reseal():
            self.log.info("tokens of %d people are sealed with the first key now", resealed)
        return TokenKeeper(
            store, self.clients, self._session_purpose, parallel=self.parallel_requests, sign=self.own_issuer.sign
        )

    @default("own_issuer")
    def _default_own_issuer(self) -> OwnIssuer:
        hub = self.policy.facility.hub
        if hub and self.oauth_callback_url and not self.oauth_callback_url.startswith(hub):
            self.log.error(
                "facility.yaml says that the hub is at %s (facility.hub), but people come back from the IAM to %s: nobody could verify tokens "
                "that this hub signs",
                hub,
                self.oauth_callback_url,
            )
        path = Path(self.issuer_keys_file or Path(self.database).with_name("issuer-keys.json"))
        return OwnIssuer(KeyFile(path, self.issuer_key_seconds, time.time), lambda: self.policy)

    @default("limiter")
    def _default_limiter(self) -> Limiter:
        services = Allowance(self.service_request_rate, self.service_request_burst)
        return Limiter({"user": Allowance(self.request_rate, self.request_burst), "service": services})

    @default("client_secret")
    def _default_client_secret(self) -> str:
        return Path(self.client_secret_file).read_text().strip() if self.client_secret_file else ""

    @default("scope")
    def _default_scope(self) -> list[str]:
        return self.scopes_for(self.policy.issuers[0].issuer)

    @default("login_service")
    def _default_login_service(self) -> str:
        return "IAM"

    @default("manage_groups")
    def _default_manage_groups(self) -> bool:
        return True

    @default("auth_refresh_strict")
    def _default_auth_refresh_strict(self) -> bool:
        # Whom the policy no longer lets in loses hub tokens too. refresh_user tells that from an IAM that does not answer.
        return True

    @default("refresh_pre_spawn")
    def _default_refresh_pre_spawn(self) -> bool:
        return True

    @default("any_allow_config")
    def _default_any_allow_config(self) -> bool:
        return True  # facility.yaml is our allow list

    @validate("auth_refresh_age")
    def _more_than_never(self, proposal: Any) -> int:
        if proposal.value <= 0:
            raise TraitError("IAMAuthenticator.auth_refresh_age must be more than 0: 0 would switch every refresh off")
        return int(proposal.value)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        policy: Policy = self.policy_source.current()
        return policy

    @cached_property
    def prover(self) -> Prover:
        """What is known of images, for all sessions of the hub; asked by spawners whose sessions are pods."""
        return Prover(lambda: self.policy)

    def _session_purpose(self, issuer: str) -> Purpose:
        """What sessions of this issuer's people get, by the policy in force."""
        return session_purpose(self.policy.tokens_of(issuer).session)

    def scopes_for(self, issuer: str) -> list[str]:
        """What a login at this issuer asks for: all that refreshes for its people may ever need."""
        return login_scopes(self.policy.tokens_of(issuer))
