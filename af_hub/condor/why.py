"""HTCondor's messages, codes and ads in words for an analyst: why a call failed, why a job is held, how a job ended.

Pure, by tables. What a message looks like was seen on HTCondor 23.9; codes are those of its manual ("Job ClassAd Attributes",
``HoldReasonCode``). An unknown one is told in HTCondor's own words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEXT_LENGTH = 300
_ADMINS = "the facility's administrators can help"
HELD: dict[int, str] = {
    1: "somebody put it on hold (condor_hold)",
    4: "its credentials are not valid any more; log in at the hub again and start a new one",
    6: f"the worker node could not start the image's Python; choose another image or another site, or {_ADMINS}",
    7: f"the worker node could not open its output file; try another site, or {_ADMINS}",
    9: f"the worker node could not open its error file; try another site, or {_ADMINS}",
    12: f"its output could not be brought back to the access point; try another site, or {_ADMINS}",
    13: f"its input files could not be brought to the worker node; try another site, or {_ADMINS}",
    14: f"its working directory could not be opened; try another site, or {_ADMINS}",
    21: f"the worker node refused to go on with it; try another site, or {_ADMINS}",
    23: f"the access point has no account of the operating system for you; {_ADMINS}",
    26: "a rule of the access point's administrators put it on hold",
    32: "its input files are larger than the access point takes",
    33: "its output files are larger than the access point takes",
    34: "it used more memory than it had asked for; ask for more with user_memory=…",
    35: "the container image does not exist or cannot be read; choose another image",
    45: "the container cannot be started on the worker node; choose another image or another site",
    46: "it ran longer than it may",
    47: "it ran longer than it may",
}
_ERROR = re.compile(r"\b(?P<system>[A-Z_]+):(?P<code>-?\d+):(?P<text>.*?)(?:\||$)", re.DOTALL)
_PLACE = re.compile(r"^[A-Z_]*:-?\d+:")
_BROKEN = re.compile(r"SECMAN:2011|CEDAR:|classad message|end of message|timed out", re.IGNORECASE)
_HUNG_UP = re.compile(r"^.*ERROR: (SECMAN:20(07|11)|CEDAR):", re.MULTILINE)
_DENIED = re.compile(r'"DENIED" from server for user (?P<account>[^\s@]+)')


@dataclass(frozen=True)
class Ending:
    """How a job left the queue: whether it ended well by itself, and a clause about it, as in "the job was removed"."""

    well: bool
    sentence: str


def held_because(code: int, reason: str) -> str:
    """Why HTCondor holds a job, as the clause after a colon."""
    said = shorten(reason) or "no reason given"
    known = HELD.get(code)
    return f"{known} (HTCondor says: {said})" if known else said


def read_ending(ad: Mapping[str, Any]) -> Ending:
    """How the job of an ad from the history, or of one that is about to leave the queue, ended."""
    if ad["JobStatus"] == 4:
        if ad.get("ExitBySignal"):
            return Ending(False, f"it was ended by signal {shorten(str(ad.get('ExitSignal')))}")
        status = ad.get("ExitCode", 0)
        return Ending(
            status == 0, "it ended by itself" if status == 0 else f"it ended with status {shorten(str(status))}"
        )
    said = shorten(str(ad.get("RemoveReason") or ""))
    return Ending(False, "it was removed from HTCondor's queue" + (f" ({said})" if said else ""))


def why_failed(message: str, collector: str, reachable: bool) -> tuple[str, str]:
    """The kind (``unavailable`` or ``refused``) of a failed call and a sentence, from HTCondor's message.

    Parameters
    ----------
    reachable
        Whether the collector is there: about one, HTCondor says the same when it is down and when it refuses the token.
    """
    if denied := _DENIED.search(message):
        return "refused", (
            f"the access point knows you as {denied['account']} and does not let you do that: the token lacks the compute.* "
            f"scopes, or the access point's rules (ALLOW_WRITE, DENY_WRITE) forbid it; {_ADMINS}"
        )
    if _BROKEN.search(message):
        return "unavailable", "HTCondor's access point does not answer"
    if error := _ERROR.search(message):
        return "refused", f"the access point refused: {shorten(error['text'])}"
    if "communication" not in message.lower() and "connect" not in message.lower():
        return "refused", f"the access point refused: {shorten(message)}"
    if not reachable:
        return "unavailable", f"the HTCondor pool at {collector} does not answer"
    return "refused", (
        "the HTCondor pool did not accept the token: it is over, not meant for this pool, lacks the compute.* scopes, "
        f"or its owner has no account there; log in at the hub again, and if that does not help, {_ADMINS}"
    )


def read_warning(said: str) -> list[str]:
    """What the access point warns of at a submit that it takes, a sentence each."""
    lines = said.removeprefix("Submit succeeded with warning: ").splitlines()
    return [found for line in lines if (found := one_line(_PLACE.sub("", line)))]


def hung_up(overheard: str) -> bool:
    """Whether a daemon, by what HTCondor's library wrote, was not there at all: a shared port takes connections for dead ones, too."""
    return bool(_HUNG_UP.search(overheard))


def one_line(text: str) -> str:
    """Words of jobs, sites and HTCondor as they may stand in logs and terminals: without what ends a line, moves the cursor, or turns letters round."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def shorten(text: str) -> str:
    """One line of at most :data:`TEXT_LENGTH` characters, without a stop at its end."""
    line = one_line(text).rstrip(".")
    return line if len(line) <= TEXT_LENGTH else line[: TEXT_LENGTH - 1] + "…"
