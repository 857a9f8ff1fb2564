"""The choice of a session and what it gets: what the spawners have in common.

Promises: nothing starts that the policy does not give at that moment, whichever way the choice came (form, API, saved last time); a
link never starts anything; a refusal is a sentence with a reason of a closed set. :mod:`af_hub.session` decides what a choice may
be and what a session gets; who somebody is and what they may comes from the authenticator; a spawner starts it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.utils import urlize
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future, url_path_join
from traitlets import Dict, Float, Unicode, default
from traitlets.config import LoggingConfigurable

from af_hub.errors import ChoiceRefused, LoginRequired, PolicyError
from af_hub.policy.decide import Rights, volumes_in_conflict
from af_hub.policy.model import Policy
from af_hub.policy.sites import Cache
from af_hub.registry.patterns import describe_pattern
from af_hub.session import fragments
from af_hub.session.authorities import authority_files
from af_hub.session.cvmfs import cvmfs_fragment
from af_hub.session.fragments import SessionFragment
from af_hub.session.machine import WhatIsFree, describe_size, free_now
from af_hub.session.options import (
    OWN,
    TYPED,
    Reason,
    SessionOptions,
    check_choice,
    read_form,
    without_own_images,
)
from af_hub.session.volumes import volumes_fragment
from af_hub.session.xrootd import datasets_fragment, xrootd_fragment
from af_hub.spawning.agent import agent_config, asks_for_jobs, pool_of

PAGE = jinja2.Environment(
    loader=jinja2.PackageLoader("af_hub.session", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class SessionRefused(SpawnException):  # type: ignore[misc]
    """A session that does not begin, or did not come up; pages and progress show the sentence and nothing else."""

    @property
    def jupyterhub_message(self) -> str:
        """The sentence; JupyterHub 6.1.1 would put status, class and log line before it."""
        return str(self.message)

    @property
    def jupyterhub_html_message(self) -> str:
        """The same with its links."""
        return str(urlize(str(self.message)))


class ChoosingSpawner(LoggingConfigurable):
    """The part of a spawner that asks the policy; a spawner of JupyterHub stands behind it in the order of bases.

    What is set as ``c.ChoosingSpawner.NAME`` holds for whichever spawner the hub has.
    """

    # Of JupyterHub's Spawner.
    user: Any
    hub: Any
    db: Any
    orm_spawner: Any
    authenticator: Any
    user_options: Any
    public_hub_url: Any
    _log_name: str

    controller_url = Unicode(
        help="""
        Where sessions find the controller of Dask clusters; it must end with a slash.

        When unset, the service ``af-controller`` below the hub's public address.

        Example::

            c.ChoosingSpawner.controller_url = "https://hub.example.org/services/af-controller/"
        """
    ).tag(config=True)

    @default("controller_url")
    def _controller_url(self) -> str:
        return controller_below(self.public_hub_url or self.hub.url)

    welcome = Unicode(
        help="""
        A notebook that is put into a person's home when it is made, at the first start.

        When unset, homes are empty.

        Example::

            c.ChoosingSpawner.welcome = "/etc/af-hub/Welcome.ipynb"
        """
    ).tag(config=True)

    cache = Unicode(
        help="""
        The XRootD cache (a name under ``caches`` in ``facility.yaml``) that sessions read through: the one nearest to this machine.

        When unset, the first in the file; when the file has none, sessions read directly.

        Example::

            c.ChoosingSpawner.cache = "cache-lnl"
        """
    ).tag(config=True)

    datasets = Dict(
        help="""
        Datasets that the facility offers, by name, each a list of ``root://`` addresses. They stand in the variable ``AF_DATASETS``
        of sessions.

        When unset, none are offered.

        Example::

            c.ChoosingSpawner.datasets = {"dimuon": ["root://eospublic.cern.ch//eos/opendata/cms/dimuon.root"]}
        """
    ).tag(config=True)

    first_token_timeout = Float(
        20,
        help="""
        Seconds that a session waits at its start for the first access token. After that it starts without one, and the log of the
        session says why; the token comes when it can be had.

        Example::

            c.ChoosingSpawner.first_token_timeout = 60
        """,
    ).tag(config=True)

    @default("default_url")
    def _default_url(self) -> str:
        return "/lab"

    takes_own_images = False
    """Whether sessions can have container images that are not in the list: those that are pods can."""

    has_volumes = False
    """Whether sessions have the policy's volumes: those that are pods have."""

    _refused_form: Mapping[str, object] | None = None

    # --- the choice ---------------------------------------------------------------------------------------------------

    async def _rights(self) -> tuple[Rights, Policy]:
        """What the person may have now, and the policy that says so.

        Raises
        ------
        ChoiceRefused
            When the person's login has ended.
        """
        try:
            rights, policy = await maybe_future(self.authenticator.rights_of(self.user))
        except LoginRequired as error:
            raise ChoiceRefused(str(error), Reason.LOGIN) from error
        return rights if self.takes_own_images else without_own_images(rights), policy

    async def _checked(self, choice: object) -> tuple[SessionOptions, Rights, Policy]:
        try:
            rights, policy = await self._rights()
            return check_choice(choice, rights, policy), rights, policy
        except ChoiceRefused as refusal:
            self._refuse(str(refusal), refusal.reason)

    def _refuse(self, sentence: str, reason: str, status: int = 403) -> NoReturn:
        raise SessionRefused(
            sentence, reason=str(reason), status_code=status, log_message=f"{self._log_name}: {sentence}"
        )

    async def get_options_form(self) -> str:
        """The choice as HTML, for the middle of JupyterHub's spawn page; a person without any choice gets the refusal."""
        try:
            rights, policy = await self._rights()
            chosen = self._preselected(rights, policy)
        except ChoiceRefused as refusal:
            return str(
                PAGE.from_string('<p class="alert alert-warning">{{ text | urlize }}</p>').render(text=str(refusal))
            )
        free = await self._free()
        return str(
            PAGE.get_template("options_form.html").render(
                own=OWN if rights.own_images else "",
                typed=TYPED,
                patterns=[describe_pattern(pattern) for pattern in rights.own_images],
                images=[
                    {"name": name, "title": policy.images[name].title, "description": policy.images[name].description}
                    for name in rights.images
                ],
                sizes=[
                    {
                        "name": name,
                        "title": policy.sizes[name].title,
                        "description": describe_size(policy.sizes[name]),
                        "warning": free.lacks(policy.sizes[name]),
                    }
                    for name in rights.sizes
                ],
                chosen=chosen,
                free=free.describe(),
            )
        )

    async def _free(self) -> WhatIsFree:
        """What is free where sessions run."""
        return free_now()

    def _preselected(self, rights: Rights, policy: Policy) -> dict[str, str]:
        """What to fill into the form: what was refused a moment ago, else the last choice where it is still given, else the first of each."""
        refused, self._refused_form = self._refused_form, None
        if refused is not None:
            return {
                key: value[0] for key, value in refused.items() if isinstance(value, list) and isinstance(value[0], str)
            }
        try:
            choice = check_choice(self.user_options, rights, policy).choice
        except ChoiceRefused:
            if rights.own_images and not rights.images:
                return {"image": OWN}
            return check_choice({}, rights, policy).choice
        if choice["image"] in rights.images:
            return choice
        return {**choice, "image": OWN, TYPED: choice["image"]}

    async def options_from_form(self, form: Mapping[str, object]) -> dict[str, str]:
        """The choice of somebody who pressed the button; when it is refused it stays in the form."""
        try:
            return await self._choice_in(form)
        except SessionRefused:
            # JupyterHub 6.1.1 then shows the form of the default server, whichever was to start.
            getattr(self.user, "spawner", self)._refused_form = form
            raise

    async def _choice_in(self, form: Mapping[str, object]) -> dict[str, str]:
        try:
            choice = read_form(form)
        except ChoiceRefused as refusal:
            self._refuse(str(refusal), refusal.reason, 400)
        options, _, policy = await self._checked(choice)
        await self._prove(options, policy)
        return options.choice

    async def _prove(self, options: SessionOptions, policy: Policy) -> object:
        """Refuse an image that could not be started, while the form is still there; for sessions that are pods."""

    def options_from_query(self, query: Mapping[str, object]) -> NoReturn:
        """Refuse: with a link, anybody could start a session of their choice with the token of whoever follows it."""
        self._refuse("A link does not choose for you. Look at the choice below and press Start.", Reason.LINK, 400)

    def apply_user_options(self, _spawner: Any, _options: object) -> None:
        """Nothing to do here: the choice is checked and used in :meth:`start`, where nothing comes after it."""

    def describe(self, options: SessionOptions, rights: Rights, policy: Policy, folder: str) -> SessionFragment:
        """All that this session gets, as one fragment."""
        pool = pool_of(rights, policy)
        page = controller_below(self.public_hub_url) if self.public_hub_url else ""
        cache = self.cache or next(iter(policy.caches), "")
        if cache and cache not in policy.caches:
            self._refuse(
                f"{type(self).__name__}.cache is {cache!r}; facility.yaml has {', '.join(policy.caches)}.",
                Reason.FACILITY,
                500,
            )
        return fragments.merge(
            fragments.image_fragment(options.image_name),
            fragments.token_fragment(folder),
            fragments.dask_fragment(folder, self.controller_url, rights.sites, page),
            *([self._condor_fragment(folder, pool, rights, policy)] if pool else []),
            *([self._data_fragment(folder, policy.caches[cache])] if cache else []),
            *([datasets_fragment(self.datasets)] if self.datasets else []),
            cvmfs_fragment(policy.cvmfs),
            *([self._volumes_fragment(rights, policy)] if self.has_volumes else []),
        )

    def _volumes_fragment(self, rights: Rights, policy: Policy) -> SessionFragment:
        if conflict := volumes_in_conflict(policy, rights):
            self._refuse(conflict, Reason.FACILITY, 500)
        return volumes_fragment(policy.volumes, rights.volumes)

    def _data_fragment(self, folder: str, cache: Cache) -> SessionFragment:
        """The way to data; without its authority when that cannot be read, since much can be done without data."""
        authorities: dict[str, str] = {}
        try:
            authorities = authority_files(Path(cache.ca_file).read_bytes()) if cache.ca_file else {}
        except (PolicyError, OSError) as error:
            self.log.error(
                "no session can trust the cache %s (caches.*.ca_file %s): %s", cache.url, cache.ca_file, error
            )
        return xrootd_fragment(folder, cache.url, signpost=True, authorities=authorities)

    def _condor_fragment(self, folder: str, pool: str, rights: Rights, policy: Policy) -> SessionFragment:
        asks = asks_for_jobs(self.user.name, rights, policy)
        authority = ""
        try:
            authority = Path(policy.pools[pool].ca_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            self.log.error("no session can trust the pool %s (pools.%s.ca_file): %s", pool, pool, error)
        return fragments.condor_fragment(folder, policy.pools[pool], asks, authority)

    # --- the same for every kind of session ---------------------------------------------------------------------------

    def _tell_agent(self, fragment: SessionFragment, folder: str, rights: Rights, policy: Policy) -> dict[str, Any]:
        """The agent's configuration, but for its hub token and for what only one kind of session has."""
        return agent_config(fragment, folder, self.controller_url, self.user.name, rights, policy)

    def get_env(self) -> dict[str, Any]:
        """JupyterHub's, with the hub token under one name only; the other is for servers of JupyterHub before 0.8."""
        found: dict[str, Any] = super().get_env()  # type: ignore[misc]  # of the spawner behind us
        return {name: value for name, value in found.items() if name != "JPY_API_TOKEN"}

    def _be_adoptable(self) -> None:
        """Record the session before it is ready, so that the next hub finds it should this one end now."""
        if self.orm_spawner is not None:
            self.orm_spawner.state = self.get_state()  # type: ignore[attr-defined]
            self.db.commit()


def controller_below(hub: str) -> str:
    """The address of the controller's pages at the hub whose own address (with ``hub/``) this is."""
    return str(url_path_join(hub.removesuffix("/").removesuffix("/hub"), "services/af-controller/"))
