"""``facility.yaml`` from its file: environment put in, shape and references checked, read again when it changes.

Promises: whatever stands in the file, the answer is a policy or one :class:`~af_hub.errors.PolicyError` that tells every mistake with
its line; a broken or half-written file never replaces a good one (:class:`PolicyFile`).
"""

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from af_hub.errors import PolicyError
from af_hub.files import RestingFile
from af_hub.policy.model import Policy
from af_hub.policy.references import wrong_references
from af_hub.policy.text import Mistake, Place, read_document
from af_hub.policy.words import describe_error, describe_found, describe_place

log = logging.getLogger(__name__)

_VARIABLE = re.compile(r"\$\{([^{}]*)\}?")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")


def load_policy(path: Path | str, environ: Mapping[str, str] = os.environ, lenient: bool = False) -> Policy:
    """Read and check the file.

    Parameters
    ----------
    path
        The file.
    environ
        Where ``${NAME}`` in its strings is looked up.
    lenient
        Leave a ``${NAME}`` that is not in ``environ`` as it stands, for questions that need no addresses.

    Raises
    ------
    PolicyError
        When it cannot be read or is wrong; the message lists every mistake with its line.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return read_policy(content, str(path), environ, lenient)


def unreadable(path: Path | str, error: OSError) -> PolicyError:
    """What to say of a file that cannot be read."""
    return PolicyError(f"{path}: cannot be read ({error.strerror}); put it there, readable for uid {os.getuid()}")


def read_policy(content: bytes | str, name: str, environ: Mapping[str, str], lenient: bool = False) -> Policy:
    """The policy in ``content``; ``name`` is what messages call it. See :func:`load_policy`."""
    document = read_document(content if isinstance(content, str) else _decoded(content, name), name)
    unset: list[Mistake] = []
    values = _put_in(document.values, (), environ, lenient, unset)
    mistakes = [*document.mistakes, *unset]
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        # What comes of a variable that is not set has been said already.
        told = {mistake.place for mistake in unset}
        mistakes += [
            mistake for found in error.errors(include_url=False) if (mistake := describe_error(found)).place not in told
        ]
    mistakes += wrong_references(values)
    if mistakes:
        lines = {(mistake.line or document.line_of(mistake.place), mistake) for mistake in mistakes}
        told_in_order = sorted(lines, key=lambda pair: (pair[0], describe_place(pair[1].place)))
        raise PolicyError(
            "\n".join(
                f"{name}, line {line}, {describe_place(one.place)}: {one.sentence}" for line, one in told_in_order
            )
        )
    return policy


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError(
            f"{name}, line {line}: found the byte 0x{content[error.start]:02x}, wanted UTF-8; save the file in that encoding"
        ) from error


def _put_in(value: Any, place: Place, environ: Mapping[str, str], lenient: bool, unset: list[Mistake]) -> Any:
    """The value with its variables replaced; what cannot be replaced stays, and is added to ``unset``."""
    if isinstance(value, dict):
        return {key: _put_in(one, (*place, str(key)), environ, lenient, unset) for key, one in value.items()}
    if isinstance(value, list):
        return [_put_in(one, (*place, number), environ, lenient, unset) for number, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def known(match: re.Match[str]) -> str:
        name = match[1]
        if not _NAME.match(name) or not match[0].endswith("}"):
            unset.append(
                Mistake(place, f"found {describe_found(match[0])}, wanted `${{NAME}}` in capitals; write it so")
            )
        elif name in environ:
            return environ[name]
        elif not lenient:
            sentence = f"found `{match[0]}`, but the environment has no {name}; set it for the process that reads this, or write the value"
            unset.append(Mistake(place, sentence))
        return match[0]

    return _VARIABLE.sub(known, value)


@functools.cache
def policy_file(path: str) -> "PolicyFile":
    """The one :class:`PolicyFile` that all parts of this process share, so that an edit is read, and told, once."""
    return PolicyFile(path)


class PolicyFile:
    """The policy in force: that of the file as it was when last right.

    Parameters
    ----------
    path
        The file. It is looked at each time somebody asks; when it has changed it is read once nobody has written to it for a second,
        so that a half-written one is never taken, whichever way an editor saves.
    clock
        Wall clock, in seconds.

    Raises
    ------
    PolicyError
        At once, when the file is wrong from the start: nothing begins without a policy.
    """

    def __init__(
        self, path: Path | str, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] | None = None
    ) -> None:
        self.path = Path(path)
        self._environ = environ
        self._file = RestingFile(self.path, *([clock] if clock else []))
        try:
            content = self._file.first()
        except OSError as error:
            raise unreadable(path, error) from error
        self._policy = read_policy(content, str(path), environ)

    def current(self) -> Policy:
        """The policy in force now; looks at the file each time, which costs some microseconds."""
        try:
            content = self._file.news()
            if content is not None:
                self._policy = read_policy(content, str(self.path), self._environ)
                log.info("policy read again from %s: it holds from now on", self.path)
        except OSError as error:
            log.error("policy kept as it was: %s", unreadable(self.path, error))
        except PolicyError as error:
            log.error("policy kept as it was, since the edit is wrong:\n%s", error)
        return self._policy
