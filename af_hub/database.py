"""What a database on a full or broken disk says, as an error of ours: for the hub's keeper and the controller alike.

Promises: whoever asked gets one sentence, at once, and the change is not made at all. Leaves to the callers what they do without it.
"""

import re

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from af_hub.errors import Unavailable

# SQLite's own words (sqlite3_errstr).
DISK_TROUBLE = re.compile(r"disk is full|disk I/O error|readonly database|unable to open database file")


def tell_disk_trouble(engine: Engine, whose: str) -> None:
    """Let ``engine`` raise :class:`~af_hub.errors.Unavailable` for what the disk under it does; ``whose`` is "The hub", as in its sentence."""

    @event.listens_for(engine, "handle_error")
    def translate(context: ExceptionContext) -> None:
        said = str(context.original_exception)
        if DISK_TROUBLE.search(said):
            raise Unavailable(
                f"{whose} cannot write down anything now ({said}), so nothing was changed. "
                "The facility's administrators have to see to its disk; then try again."
            ) from context.original_exception
