"""Where the forwarder is and as whom one logs in there, as values.

Serves whoever has to hand these on without dialling, such as the files that come with a job. Promises: a key does not show.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ForwarderAddress:
    """Where the forwarder is and the one host key that it must show (an OpenSSH public key)."""

    host: str
    port: int
    host_key: str


@dataclass(frozen=True)
class Credentials:
    """Who we are: a private key and its user certificate, both in OpenSSH's text form, kept in memory."""

    principal: str
    private_key: str = field(repr=False)
    certificate: str
