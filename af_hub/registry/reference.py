"""Names of container images, as people type them, and what each of them means in full.

The grammar is that of the distribution project (``reference/reference.go``), as docker, podman and containerd read it. Promises: what
comes out is one image in one registry and nothing else, however the text was written; what a person may not have meant is refused with
what was found and what was wanted. Leaves to :mod:`af_hub.registry.patterns` who may use it, and to :mod:`af_hub.registry.prover`
whether there is such an image.
"""

import re
from dataclasses import dataclass, replace

from af_hub.errors import ImageRefused
from af_hub.registry.reasons import ImageReason

LONGEST_NAME = 255
LONGEST = 512

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::[0-9]{{1,5}})?"
"""The part before the first slash: a host, and a port if need be; in small letters."""
_WORD = r"[a-z0-9]+(?:(?:[_.]|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(REGISTRY)
_PATH = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")

# Where a name without a registry is looked for; docker, podman (with its usual settings) and containerd agree on it.
HUB, HUB_ALIAS, HUB_FOLDER = "docker.io", "index.docker.io", "library"

_EXAMPLE = "write it as in `registry.example.org/group/image:tag`"


@dataclass(frozen=True)
class Reference:
    """One image in one registry; ``str()`` of it is the name in full. At least one of ``tag`` and ``digest`` is there."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.path}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> "Reference":
        """The very image that has this digest, whatever the tag means later."""
        return replace(self, tag="", digest=digest)


def read_reference(text: str) -> Reference:
    """The image that ``text`` names; without a registry one of ``docker.io``, without tag and digest that with the tag ``latest``.

    Raises
    ------
    ImageRefused
        When it is no name of an image; the sentence says why.
    """
    if wrong := _no_name(text):
        raise ImageRefused(f"{_shown(text)} is no name of an image: {wrong}", ImageReason.NAME)
    name, _, digest = text.partition("@")
    name, tag = _without_tag(name)
    registry, path = _split(name)
    return Reference(registry, path, tag or ("" if digest else "latest"), digest)


def _without_tag(name: str) -> tuple[str, str]:
    """A colon after the last slash begins a tag; one before it a port."""
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, tag


def _split(name: str) -> tuple[str, str]:
    """Registry and path; the first part is a registry when it could be no other thing."""
    first, slash, rest = name.partition("/")
    if not slash or not _looks_like_registry(first):
        first, rest = HUB, name
    registry = HUB if first == HUB_ALIAS else first
    return registry, f"{HUB_FOLDER}/{rest}" if registry == HUB and "/" not in rest else rest


def _looks_like_registry(part: str) -> bool:
    return part == "localhost" or "." in part or ":" in part


def _no_name(text: str) -> str:
    """What is wrong with it, what was wanted, what to change; empty when nothing is."""
    name, at, digest = text.partition("@")
    bare, tag = _without_tag(name)
    registry, path = _split(bare)
    if not text or len(text) > LONGEST:
        return f"found {len(text)} characters, wanted some, and at most {LONGEST}; {_EXAMPLE}"
    if odd := next((one for one in text if not one.isascii() or not one.isprintable() or one == " "), None):
        return f"found {odd!a}, wanted letters, digits and `.`, `_`, `-`, `/`, `:`, `@`; take it out"
    if "://" in text:
        return f"found `{text.partition('://')[0][:20]}://`, wanted the name alone; leave that out"
    if bare.lower() != bare:
        return "found a capital letter, wanted small ones everywhere but in the tag; write it in small letters"
    if at and not DIGEST.fullmatch(digest):
        return "found an `@` without a digest behind it, wanted `sha256:` and 64 digits; copy it again"
    if (":" in name.rpartition("/")[2]) and not _TAG.fullmatch(tag):
        return f"found the tag {_shown(tag)}, wanted letters, digits, `_`, `.`, `-`, 128 at most; {_EXAMPLE}"
    if not _REGISTRY.fullmatch(registry):
        return f"found the registry {_shown(registry)}, wanted a host, and a port if need be; {_EXAMPLE}"
    if not _PATH.fullmatch(path):
        return f"found {_shown(path)}, wanted words of small letters and digits, joined by `/`, `.`, `_` or `-`; {_EXAMPLE}"
    if len(f"{registry}/{path}") > LONGEST_NAME:
        return f"found {len(registry) + 1 + len(path)} characters before the tag, wanted at most {LONGEST_NAME}; {_EXAMPLE}"
    return ""


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 80 else f"{text[:80]!a}..."
