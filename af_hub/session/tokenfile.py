"""The bearer token file: what XRootD, HTCondor and people read, on the hop from the hub to the session.

A reader sees the old token or the new one, whole, never half of one, and nobody but the owner reads it. The file's time is that of the
token in it: one that is there already is not written again, so whoever sees the time change (:mod:`af_hub.session.signpost`) has a new token.
"""

import logging
import stat
from pathlib import Path

from af_hub.files import write_private
from af_hub.tokens.lifetime import AccessToken

log = logging.getLogger(__name__)

# XRootD's ztn refuses a longer one (XrdSecztn, `maxTSize`), and a file that others may read.
LONGEST_FOR_XROOTD = 4096
PRIVATE = 0o600


class TokenFile:
    """The file at ``path``, mode 0600; nothing is there before the first :meth:`replace`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def replace(self, token: AccessToken) -> None:
        """Put ``token`` there in one step (rename in the same folder), unless it is there already."""
        if self._holds(token):
            return
        if len(token.value) > LONGEST_FOR_XROOTD:
            log.warning(
                "the access token has %d bytes, XRootD takes %d: reading data with it will fail; ask for fewer groups or scopes",
                len(token.value),
                LONGEST_FOR_XROOTD,
            )
        write_private(self.path, token.value)

    def _holds(self, token: AccessToken) -> bool:
        try:
            # Nothing else is opened: a pipe, which somebody may have put there, would hold us.
            mode = self.path.stat().st_mode
            return mode == stat.S_IFREG | PRIVATE and self.path.read_bytes() == token.value.encode()
        except OSError:
            return False
