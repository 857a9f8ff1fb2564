"""``facility.yaml`` from its file: environment put in, shape checked, read again when it changes.

A broken file never replaces a good one: :class:`PolicyFile` keeps the policy in force and says so in the log.
"""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from af_hub.errors import PolicyError
from af_hub.files import stamp
from af_hub.policy.model import Policy

log = logging.getLogger(__name__)

_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")


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
        text = Path(path).read_text()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read ({error.strerror})") from error
    return read_policy(text, str(path), environ, lenient)


def read_policy(text: str, name: str, environ: Mapping[str, str], lenient: bool = False) -> Policy:
    """The policy in ``text``; ``name`` is what messages call it. See :func:`load_policy`."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise PolicyError(f"{name}, line {line}: no YAML ({error.problem})") from error
    if not isinstance(found, dict):
        raise PolicyError(f"{name}: found {type(found).__name__}, wanted keys and values, the first being `version: 1`")
    try:
        return Policy.model_validate(_put_in(found, environ, lenient, name))
    except ValidationError as error:
        raise PolicyError("\n".join(_mistake(name, tree, mistake) for mistake in error.errors())) from error


def _put_in(value: Any, environ: Mapping[str, str], lenient: bool, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _put_in(inner, environ, lenient, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put_in(inner, environ, lenient, name) for inner in value]
    if not isinstance(value, str):
        return value

    def known(match: re.Match[str]) -> str:
        if match[1] in environ:
            return environ[match[1]]
        if lenient:
            return match[0]
        raise PolicyError(f"{name}: `{match[0]}` stands in {value!r}, but the environment has no {match[1]}")

    return _VARIABLE.sub(known, value)


def _mistake(name: str, tree: yaml.Node | None, mistake: Any) -> str:
    """One line for one of pydantic's errors, with the line of the file where its place begins."""
    place = ".".join(str(step) for step in mistake["loc"]) or "the file"
    what = mistake["msg"].removeprefix("Value error, ")
    found = mistake.get("input")
    if mistake["type"] == "extra_forbidden":
        what = "unknown key; see the reference of facility.yaml for those there are"
    elif mistake["type"] != "value_error" and isinstance(found, str | int | float | bool | None):
        what = f"found {found!r}; {what[:1].lower()}{what[1:]}"
    return f"{name}, line {_line_of(tree, mistake['loc'])}, {place}: {what}"


def _line_of(node: yaml.Node | None, steps: tuple[Any, ...]) -> int:
    """The line of the deepest part of ``steps`` that is in the file."""
    line = node.start_mark.line + 1 if node else 1
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line


class PolicyFile:
    """The policy in force: that of the file as it was when last right.

    Raises
    ------
    PolicyError
        At once, when the file is wrong from the start: nothing begins without a policy.
    """

    def __init__(self, path: Path | str, environ: Mapping[str, str] = os.environ) -> None:
        self.path = Path(path)
        self._environ = environ
        self._seen = stamp(self.path)
        self._policy = load_policy(self.path, environ)

    def current(self) -> Policy:
        """The policy in force now; looks at the file each time, which costs some microseconds."""
        seen = stamp(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._policy = load_policy(self.path, self._environ)
                log.info("policy read again from %s", self.path)
            except PolicyError as error:
                log.error("policy kept as it was, since the edit is wrong: %s", error)
        return self._policy
