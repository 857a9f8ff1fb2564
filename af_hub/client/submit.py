"""``af submit``: a submit description of one's own to the facility's pool, from wherever one is.

Serves the hop laptop → access point. Everything is spooled, so nothing is shared but what is sent along; the token lives minutes and lies in a
file (0600) only while the call lasts. Leaves to HTCondor what a description may say, and to the access point what it takes.
"""

import asyncio
import importlib.util
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from af_hub.condor.pool import CondorPool, Submitted
from af_hub.errors import PoolAway, Refused, Unavailable
from af_hub.files import write_private

_LISTS = re.compile(r"\([ \t]*$.*?^\s*\)", re.DOTALL | re.MULTILINE)
SECONDS = 60.0
"""Files are sent along, perhaps over a slow line."""


@dataclass(frozen=True)
class Way:
    """Where a pool is, as the hub says it, and the token for it."""

    pool: str
    collector: str
    schedd: str
    authority: str = field(repr=False)
    token: str = field(repr=False)


def read_description(file: Path) -> str:
    """A submit description that HTCondor may read.

    Raises
    ------
    Refused
        When it cannot be one.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} cannot be read ({getattr(error, 'strerror', None) or 'it is no text'}).") from None
    lines = _LISTS.sub("", text).lower().splitlines()
    queues = sum(line.split()[:1] == ["queue"] for line in lines)
    if not queues:
        raise Refused(f"{file} has no line `queue`, so there would be no job; add it at the end.")
    if queues > 1:
        raise Refused(
            f"{file} has {queues} lines `queue`, and only the first would count; make a file of each, or list all jobs in one."
        )
    return text


def check_library() -> None:
    """Raise :class:`Unavailable` where HTCondor's own library is missing."""
    if importlib.util.find_spec("htcondor2") is None:
        raise Unavailable('HTCondor\'s library is missing here; `pip install "af_hub[condor]"` brings it, on Linux.')


def submit(way: Way, description: str, folder: Path) -> Submitted:
    """Submit. Files that the description names are looked for below ``folder``, first of all.

    Raises
    ------
    Refused
        When a file is not there, or the access point does not take the jobs.
    PoolAway
        When it did not answer; the jobs may be in the queue.
    """
    with tempfile.TemporaryDirectory(prefix="af-submit-") as private:
        authority = write_private(Path(private) / "authority.pem", way.authority)
        pool = CondorPool(way.collector, way.schedd, str(authority), timeout=SECONDS, scratch=Path(private))
        try:
            return asyncio.run(pool.submit_from(way.token, description, folder))
        except PoolAway as error:
            raise PoolAway(f"{error}. From here the pool must be reached at {way.collector}") from error
