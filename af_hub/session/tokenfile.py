"""The bearer token file: what XRootD, HTCondor and people read, on the hop from the hub to the session.

A reader sees the old token or the new one, whole, never half of one, and nobody but the owner reads it.
"""

import logging
from pathlib import Path

from af_hub.files import write_private
from af_hub.tokens.lifetime import AccessToken

log = logging.getLogger(__name__)

# XRootD's ztn refuses a longer one (XrdSecztn, `maxTSize`), and a file that others may read.
LONGEST_FOR_XROOTD = 4096


class TokenFile:
    """The file at ``path``, mode 0600; nothing is there before the first :meth:`replace`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def replace(self, token: AccessToken) -> None:
        """Put ``token`` there in one step (rename in the same folder)."""
        if len(token.value) > LONGEST_FOR_XROOTD:
            log.warning(
                "the access token has %d bytes, XRootD takes %d: reading data with it will fail; ask for fewer groups or scopes",
                len(token.value),
                LONGEST_FOR_XROOTD,
            )
        write_private(self.path, token.value)
