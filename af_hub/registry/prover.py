"""What is known of an image before a session starts from it: asked of its registry, remembered for a while, judged each time.

Promises: the same image is asked for once, however many sessions want it at a moment; an answer or a refusal within :data:`PROOF_SECONDS`;
whoever types images, many or large, neither fills the hub's memory, nor holds up those of the facility's list, nor uses up what registries
allow the facility; while the registry is away, an image of the facility's list starts from what was last said of it. Leaves to the caller
whether this person may have the image: nobody may be asked about what the policy does not open.
"""

import asyncio
import logging
import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from af_hub.errors import ImageRefused
from af_hub.registry.askers import Askers
from af_hub.registry.client import RegistryClient, RegistrySettings, access_to, away
from af_hub.registry.proof import (
    ImageProof,
    choose_platform,
    is_list,
    judge,
    read_config,
    read_json,
    read_manifest,
    unproven,
)
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import Reference, read_reference

log = logging.getLogger(__name__)

PROOF_SECONDS = 8.0
TAG_SECONDS = 60.0
MOST_KEPT = 1000
TYPED_AT_ONCE = 16
"""So many images that are not in the list are asked for at a time; each answer may be megabytes."""
Question = tuple[Reference, str]
"""An image and a platform."""
PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}


class ImageSettings(Protocol):
    """``images.NAME``."""

    @property
    def container(self) -> str:
        """The name of the container image, or nothing."""


class SessionSettings(Protocol):
    """``sessions``."""

    @property
    def unnumbered_user(self) -> str:
        """``set`` or ``refuse``."""

    @property
    def minimum_jupyterhub(self) -> str:
        """A version."""

    @property
    def own_images_per_hour(self) -> int:
        """So many questions of one person."""


class Settings(Protocol):
    """What of ``facility.yaml`` counts here; :class:`af_hub.policy.model.Policy` is one."""

    @property
    def registries(self) -> Mapping[str, RegistrySettings]:
        """By the host in the names of images."""

    @property
    def images(self) -> Mapping[str, ImageSettings]:
        """The list."""

    @property
    def sessions(self) -> SessionSettings:
        """What holds for all images."""


@dataclass(frozen=True)
class _Known:
    proof: ImageProof
    since: float


class Prover:
    """Proofs of images, one for the whole hub.

    Parameters
    ----------
    settings
        The policy in force, asked for each time.
    platform
        What most nodes run, as ``linux/amd64``; that of this machine when left out.
    clock
        In seconds, only ever forward.
    """

    def __init__(
        self, settings: Callable[[], Settings], platform: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._platform, self._clock = settings, platform or this_platform(), clock
        self._known: OrderedDict[Question, _Known] = OrderedDict()
        self._flights: dict[Question, asyncio.Task[ImageProof]] = {}
        self._typed = asyncio.Semaphore(TYPED_AT_ONCE)
        self._askers = Askers(self._clock)

    async def prove(self, reference: str, platform: str = "", username: str = "") -> ImageProof:
        """What a session needs to know of the image.

        Parameters
        ----------
        reference
            Its name.
        platform
            That of the session's node, where it is another than most.
        username
            Whose question it is; when left out, nobody's, and not counted.

        Raises
        ------
        ImageRefused
            When it cannot be had, or is none that the facility starts.
        """
        image, settings = read_reference(reference), self._settings()
        registry = settings.registries.get(image.registry)
        if registry is not None and registry.address == "":
            return unproven(image)
        question = image, platform or self._platform
        proof = self._remembered(question) or await self._asked(question, registry, settings, username)
        return judge(proof, settings.sessions.minimum_jupyterhub, settings.sessions.unnumbered_user)

    def _remembered(self, question: Question) -> ImageProof | None:
        """What was said of it lately; of a digest whenever, for that can mean nothing else."""
        known = self._known.get(question)
        return known.proof if known and (question[0].digest or self._clock() - known.since < TAG_SECONDS) else None

    async def _asked(
        self, question: Question, registry: RegistrySettings | None, settings: Settings, username: str
    ) -> ImageProof:
        try:
            flight = self._flights.get(question) or self._take_off(question, registry, settings, username)
            # Others may wait for it too: whoever goes away does not end it.
            return await asyncio.shield(flight)
        except ImageRefused as refusal:
            image, known = question[0], self._known.get(question)
            if refusal.reason != ImageReason.AWAY or known is None or not _is_listed(image, settings):
                raise
            log.warning("%s: taken as it was %.0f s ago, since: %s", image, self._clock() - known.since, refusal)
            return known.proof

    def _take_off(
        self, question: Question, registry: RegistrySettings | None, settings: Settings, username: str
    ) -> asyncio.Task[ImageProof]:
        """Ask, if this person may have it asked now."""
        listed = _is_listed(question[0], settings)
        if username and not listed:
            self._askers.count(username, question[0], settings.sessions.own_images_per_hour)
        turn = nullcontext() if listed else self._typed
        flight = self._flights[question] = asyncio.create_task(_ask(*question, registry, turn))
        flight.add_done_callback(lambda done: self._landed(question, done))
        return flight

    def _landed(self, question: Question, done: asyncio.Task[ImageProof]) -> None:
        del self._flights[question]
        if done.cancelled() or done.exception():
            return
        self._known[question] = _Known(done.result(), self._clock())
        self._known.move_to_end(question)
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)


async def _ask(
    image: Reference, platform: str, registry: RegistrySettings | None, turn: AbstractAsyncContextManager[None]
) -> ImageProof:
    try:
        async with (
            asyncio.timeout(PROOF_SECONDS),
            turn,
            RegistryClient(image, access_to(image.registry, registry)) as client,
        ):
            return await _proof(image, platform, client)
    except TimeoutError as error:
        raise away(image, f"nothing in {PROOF_SECONDS:g} s") from error


async def _proof(image: Reference, platform: str, client: RegistryClient) -> ImageProof:
    digest = image.digest
    document = await client.manifest(digest or image.tag)
    found = read_json(document, digest, image)
    if is_list(document, found):
        digest = choose_platform(found, platform, image)
        document = await client.manifest(digest)
    manifest = read_manifest(document, digest, image)
    return read_config(await client.blob(manifest.config_digest), manifest, platform, image)


def _is_listed(image: Reference, settings: Settings) -> bool:
    """Whether it is one of the facility's list, rather than one that somebody typed."""
    return any(_same(one.container, image) for one in settings.images.values() if one.container)


def _same(container: str, image: Reference) -> bool:
    try:
        return read_reference(container) == image
    except ImageRefused:
        return False


def this_platform() -> str:
    """``linux/amd64`` and the like."""
    return f"linux/{PROCESSORS.get(platform.machine(), platform.machine())}"
