"""Where tools of the field look for an access token: WLCG Bearer Token Discovery 1.0.

In this order: the value of ``BEARER_TOKEN``; the file that ``BEARER_TOKEN_FILE`` names; ``bt_u<uid>`` in ``XDG_RUNTIME_DIR``, when that is set;
``/tmp/bt_u<uid>``. XRootD, gfal2, HTCondor and Rucio all follow it, so a token in the right file is found by all of them.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.files import write_private

BLANKS = " \t\n\v\f\r"
"""What C's isspace() takes for a blank, which the specification strips."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""What may stand behind ``Bearer`` (RFC 6750, section 2.1)."""

MOST_BYTES = 2**20


def token_places(environ: Mapping[str, str], uid: int) -> list[Path]:
    """The files in which a token is looked for, in order."""
    name = f"bt_u{uid}"
    named = [Path(environ["BEARER_TOKEN_FILE"])] if environ.get("BEARER_TOKEN_FILE") else []
    runtime = [Path(environ["XDG_RUNTIME_DIR"]) / name] if environ.get("XDG_RUNTIME_DIR") else []
    return [*named, *runtime, Path("/tmp") / name]  # noqa: S108 - the specification's


def place_to_write(environ: Mapping[str, str], uid: int) -> Path:
    """The file in which all tools look first, among those whose folder is there."""
    places = token_places(environ, uid)
    return next((place for place in places if place.parent.is_dir()), places[-1])


def read_token(text: str, where: str) -> str:
    """The token in a variable or a file; empty when nothing but blanks is in it.

    Raises
    ------
    Unavailable
        When something else is in it; the search must not go on then.
    """
    token = text.strip(BLANKS)
    if token and not TOKEN.match(token):
        raise Unavailable(f"{where} holds something that is no token; remove it, or run `af token --file`.")
    return token


def find_token(environ: Mapping[str, str], uid: int) -> str:
    """The token that tools will find; empty when there is none."""
    if token := read_token(environ.get("BEARER_TOKEN", ""), "BEARER_TOKEN"):
        return token
    for place in token_places(environ, uid):
        try:
            with place.open(errors="replace") as file:
                text = file.read(MOST_BYTES)
        except OSError:
            continue
        if token := read_token(text, str(place)):
            return token
    return ""


def write_token(place: Path, token: str) -> Path:
    """Put the token there, for its owner alone, in one step.

    Raises
    ------
    Unavailable
        When that cannot be done.
    """
    try:
        return write_private(place, token)
    except OSError as error:
        raise Unavailable(
            f"The token cannot be written to {place} ({error.strerror}); set BEARER_TOKEN_FILE to a file of yours."
        ) from error
