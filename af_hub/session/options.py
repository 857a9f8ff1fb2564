"""The choice on the spawn page, checked: the hop between the browser (or the API, or the choice saved last) and the spawner.

Whatever way a choice comes in, :func:`check_choice` decides, and it decides again just before the session starts: rights and policy
may have changed since. Nothing in a choice is a free value: it names an image and a size of ``facility.yaml``, or a container image that
fits one of the person's patterns (:mod:`af_hub.registry.patterns`), compared by its name in full.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from af_hub.errors import ChoiceRefused, ImageRefused
from af_hub.policy.decide import Rights
from af_hub.policy.model import Policy
from af_hub.policy.refusals import image_refused, link, not_given
from af_hub.policy.sessions import Image, Size
from af_hub.registry.patterns import describe_pattern, is_open
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import read_reference

KEYS = ("image", "size")
OWN, TYPED = ":own", "own_image"
"""In the form: what the field ``image`` says when the image stands in the other field. It can be no image's name."""


class Reason(StrEnum):
    """Why a choice was refused; a closed set, for it labels a metric, with those of :class:`~af_hub.registry.reasons.ImageReason`.

    The last two are about sessions that did not come up.
    """

    LOGIN = "login"
    RIGHTS = "rights"
    FORM = "form"
    IMAGE = "image"
    SIZE = "size"
    LINK = "link"
    FACILITY = "facility"
    """Nothing about the person: this facility's own set-up is wrong."""
    NO_ROOM = "no-room"
    """It was allowed, and there is no room for it now."""
    PULL = "pull"
    """It was allowed, and its image cannot be brought to a node."""
    CLUSTER = "cluster"
    """It was allowed, and the cluster that runs sessions does not answer."""
    DIED = "died"
    """It was allowed, and ended before it answered."""
    SILENT = "silent"
    """It was allowed, and never answered."""


@dataclass(frozen=True)
class SessionOptions:
    """A choice that this person may make now."""

    image_name: str
    """A key of ``images`` in ``facility.yaml``, or the name in full of a container image that the person typed."""
    image: Image
    size_name: str
    size: Size

    @property
    def choice(self) -> dict[str, str]:
        """What JupyterHub saves as ``user_options`` and offers again next time."""
        return {"image": self.image_name, "size": self.size_name}


def read_form(form: Mapping[str, object]) -> dict[str, object]:
    """The choice in the fields of a form, as the hub hands them over: each a list of texts, of which we want one.

    Raises
    ------
    ChoiceRefused
        When a field came several times, or holds a file.
    """
    fields = dict(form)
    fields.pop("_xsrf", None)
    for key, value in fields.items():
        if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], str):
            raise ChoiceRefused(f"The field {key!r:.60} of the form must hold one text.", Reason.FORM)
    choice = {key: value[0] for key, value in fields.items() if isinstance(value, list)}
    typed = choice.pop(TYPED, "").strip()
    if choice.get("image") == OWN:
        if not typed:
            raise ChoiceRefused(
                "You chose another image and typed none; type its name, or choose one of the list.", Reason.FORM
            )
        choice["image"] = typed
    return choice


def without_own_images(rights: Rights) -> Rights:
    """The same rights where sessions cannot have images but those of the list."""
    return replace(rights, own_images=())


def check_choice(choice: object, rights: Rights, policy: Policy) -> SessionOptions:
    """The image and size that ``choice`` names, if this person may have them.

    A part that is missing becomes the first that the person may have.

    Raises
    ------
    ChoiceRefused
        In any other case; its ``reason`` is one of :class:`Reason`.
    """
    if not rights.login:
        raise ChoiceRefused(rights.refusal or "You may not log in here.", Reason.RIGHTS)
    named = _named(choice)
    image_name, image = _image(named.get("image"), rights, policy)
    size_name = _one_of("size", named.get("size"), policy.sizes, rights.sizes, policy)
    return SessionOptions(image_name, image, size_name, policy.sizes[size_name])


def _image(name: str | None, rights: Rights, policy: Policy) -> tuple[str, Image]:
    """One of the list, or, for whoever may type one, what no image of the list is called."""
    if name is not None and name not in policy.images and rights.own_images:
        own = _own_image(name, rights, policy)
        return own, Image.model_validate({"title": own, "container": own})
    listed = _one_of("image", name, policy.images, rights.images, policy)
    return listed, policy.images[listed]


def _own_image(typed: str, rights: Rights, policy: Policy) -> str:
    """The name in full of what was typed, if one of the person's patterns opens it."""
    try:
        reference = read_reference(typed)
    except ImageRefused as refusal:
        raise ChoiceRefused(image_refused(policy, str(refusal), refusal.reason), refusal.reason) from refusal
    if not is_open(rights.own_images, reference):
        open_to = "; ".join(map(describe_pattern, rights.own_images))
        sentence = (
            f"The image {reference} is not one of those that you may type; those are: {open_to}. Open in the list are: "
            f"{_listed(rights.images)}."
        )
        raise ChoiceRefused(image_refused(policy, sentence, ImageReason.NOT_ALLOWED), ImageReason.NOT_ALLOWED)
    return str(reference)


def _named(choice: object) -> dict[str, str]:
    """The choice as texts by key, and nothing else in it."""
    if choice is None:
        return {}
    if not isinstance(choice, dict):
        raise ChoiceRefused(f"A choice names {' and '.join(KEYS)}; this one is no object.", Reason.FORM)
    if extra := [key for key in choice if key not in KEYS]:
        raise ChoiceRefused(
            f"A choice names {' and '.join(KEYS)}, nothing else; this one has {_listed(extra)}.", Reason.FORM
        )
    for key, value in choice.items():
        if not isinstance(value, str):
            raise ChoiceRefused(f"The {key} must be a text, not {type(value).__name__}.", Reason.FORM)
    return choice


def _one_of(kind: str, name: str | None, known: Mapping[str, object], allowed: tuple[str, ...], policy: Policy) -> str:
    """``name``, or the first allowed one when there is no name."""
    reason = Reason(kind)
    if name is None:
        if not allowed:
            raise ChoiceRefused(
                f"Your groups give you no {kind}; ask {policy.facility.contact} for one that does."
                + link(policy, "not-given"),
                reason,
            )
        return allowed[0]
    if name not in known:
        raise ChoiceRefused(f"There is no {kind} {name!r:.80}; you may have {_listed(allowed)}.", reason)
    if name not in allowed:
        raise ChoiceRefused(f"The {kind} {name!r} is not for you: {not_given(policy, kind, name, allowed)}", reason)
    return name


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name)[:80] for name in names) or "none"
