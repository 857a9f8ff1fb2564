"""``facility.yaml`` from its file: environment put in, shape and references checked, read again when it changes.

Promises: whatever stands in the file, the answer is a policy or one :class:`~af_hub.errors.PolicyError` that tells every mistake with
its line; a broken or half-written file never replaces a good one (:class:`PolicyFile`).
"""

import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from af_hub.errors import PolicyError
from af_hub.files import RestingFile
from af_hub.policy.model import Policy
from af_hub.policy.references import wrong_references
from af_hub.policy.text import Document, Mistake, Place, read_document
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
    found = examine(content, name, environ, lenient)
    if found.policy is None:
        raise PolicyError("\n".join(found.mistakes))
    return found.policy


@dataclass(frozen=True)
class Examined:
    """What came of a file.

    Parameters
    ----------
    policy
        None when there are mistakes.
    mistakes
        One sentence each, with the line, in the order of the file.
    unset
        Names of variables that the environment does not have; only a lenient reading leaves them standing.
    """

    name: str
    document: Document
    policy: Policy | None
    mistakes: tuple[str, ...]
    unset: tuple[str, ...]

    def told(self, mistakes: Iterable[Mistake]) -> tuple[str, ...]:
        """Each with its line, in the order of the file."""
        lines = {(mistake.line or self.document.line_of(mistake.place), mistake) for mistake in mistakes}
        in_order = sorted(lines, key=lambda pair: (pair[0], describe_place(pair[1].place)))
        return tuple(f"{self.name}, line {line}, {describe_place(one.place)}: {one.sentence}" for line, one in in_order)


def examine(content: bytes | str, name: str, environ: Mapping[str, str], lenient: bool = False) -> Examined:
    """The policy in ``content``, or all its mistakes.

    Raises
    ------
    PolicyError
        When it is no YAML with keys, so that there is nothing to look for more mistakes in.
    """
    document = read_document(content if isinstance(content, str) else _decoded(content, name), name)
    wrong: list[Mistake] = []
    unset: list[tuple[str, Mistake]] = []
    values = _put_in(document.values, (), environ, wrong, unset)
    wrong += [] if lenient else [mistake for _, mistake in unset]
    mistakes = [*document.mistakes, *wrong]
    policy = None
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        # What comes of a variable that is not set has been said already.
        told = {mistake.place for mistake in wrong}
        mistakes += [
            mistake for found in error.errors(include_url=False) if (mistake := describe_error(found)).place not in told
        ]
    mistakes += wrong_references(values)
    found = Examined(name, document, None if mistakes else policy, (), tuple(dict.fromkeys(name for name, _ in unset)))
    return replace(found, mistakes=found.told(mistakes))


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError(
            f"{name}, line {line}: found the byte 0x{content[error.start]:02x}, wanted UTF-8; save the file in that encoding"
        ) from error


def _put_in(
    value: Any, place: Place, environ: Mapping[str, str], wrong: list[Mistake], unset: list[tuple[str, Mistake]]
) -> Any:
    """The value with its variables replaced; what cannot be replaced stays, and is added to ``wrong`` or ``unset``."""
    if isinstance(value, dict):
        return {key: _put_in(one, (*place, str(key)), environ, wrong, unset) for key, one in value.items()}
    if isinstance(value, list):
        return [_put_in(one, (*place, number), environ, wrong, unset) for number, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def known(match: re.Match[str]) -> str:
        name = match[1]
        if not _NAME.match(name) or not match[0].endswith("}"):
            wrong.append(
                Mistake(place, f"found {describe_found(match[0])}, wanted `${{NAME}}` in capitals; write it so")
            )
        elif name in environ:
            return environ[name]
        else:
            sentence = f"found `{match[0]}`, but the environment has no {name}; set it for the process that reads this, or write the value"
            unset.append((name, Mistake(place, sentence)))
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
        The file. It is looked at each time somebody asks, or, in a process that keeps looking (:mod:`af_hub.policy.watch`), then;
        when it has changed it is read once nobody has written to it for a second, so that a half-written one is never taken, whichever
        way an editor saves. ``wrong`` says that what is in it now is not in force.
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
        self.followed, self.wrong = False, False

    def current(self) -> Policy:
        """The policy in force now; looks at the file, which costs some microseconds, unless somebody else does each second."""
        if not self.followed:
            self.look()
        return self._policy

    def look(self) -> None:
        """Read the file again if it has changed; a large one takes a second, so a process with an event loop does this in a thread."""
        try:
            content = self._file.news()
            if content is not None:
                self._policy = read_policy(content, str(self.path), self._environ)
                log.info("policy read again from %s: it holds from now on", self.path)
                self.wrong = False
        except OSError as error:
            self.wrong = True
            log.error("policy kept as it was: %s", unreadable(self.path, error))
        except PolicyError as error:
            self.wrong = True
            log.error("policy kept as it was, since the edit is wrong:\n%s", error)
