"""Why an image is refused: a closed set, for it labels a metric, and names the page on which more stands."""

from enum import StrEnum


class ImageReason(StrEnum):
    """One for each kind of sentence; the pages are :data:`af_hub.policy.refusals.PAGES`."""

    NAME = "image-name"
    """It is no name of an image."""
    NOT_ALLOWED = "image-not-allowed"
    """The policy does not let this person type it."""
    MISSING = "image-missing"
    """The registry does not have it, or shows it to others only."""
    UNREADABLE = "image-unreadable"
    """The registry does not show it to the facility."""
    TOO_MANY = "images-too-many"
    """This person has had registries asked about so many images that others have the next turn."""
    AWAY = "registry-away"
    """The registry did not answer, or with something that is no answer."""
    PLATFORM = "image-platform"
    """It is for other processors, or not for Linux."""
    NO_IMAGE = "image-none"
    """It is something else that a registry can hold, or of a form that nobody makes any more."""
    OLD = "image-old"
    """Its single-user server is older than the facility takes."""
    USER = "image-user"
    """It runs as root or as a name, and the facility wants a number."""
