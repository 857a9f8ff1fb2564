"""How Dask's scheduler, nannies and workers deal with strangers at their ports.

Serves the hop inside a site. Worker nodes are shared: any job of any person may connect. Dask waits for the end of a TLS handshake
without limit, and writes a line into its log for each that fails; so a neighbour could use up all connections, or the disk. Promises:
a handshake that takes too long is cut, so is the oldest when too many are under way, and failures are told at the first, second, fourth,
eighth … one.
"""

import asyncio
import logging
from typing import Any

from distributed.comm.tcp import TLSBackend, TLSListener

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
UNFINISHED_AT_MOST = 256
"""Of one port. Whoever has a certificate is done within milliseconds, and not among the oldest."""


class ImpatientListener(TLSListener):
    """A listener that does not wait for ever."""

    seconds = HANDSHAKE_SECONDS
    at_most = UNFINISHED_AT_MOST

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._unfinished: dict[Any, None] = {}
        self._failures = 0

    async def _prepare_stream(self, stream: Any, address: str) -> Any:
        """Called with each new connection; the stream once the handshake is done, or None."""
        self._unfinished[stream] = None
        if len(self._unfinished) > self.at_most:
            oldest = next(iter(self._unfinished))
            del self._unfinished[oldest]
            oldest.close()
        try:
            async with asyncio.timeout(self.seconds):
                await stream.wait_for_handshake()
        except (OSError, TimeoutError) as error:
            stream.close()
            self._failed(address, getattr(error, "real_error", None) or error)
            return None
        finally:
            self._unfinished.pop(stream, None)
        return stream

    def _failed(self, address: str, error: BaseException) -> None:
        self._failures += 1
        if self._failures.bit_count() == 1:
            why = str(error) or type(error).__name__
            log.warning("TLS handshake %d that failed at %s: %s, %s", self._failures, self.listen_address, address, why)


def refuse_slow_strangers() -> None:
    """Use it for all TLS ports of this process."""
    TLSBackend._listener_class = ImpatientListener
