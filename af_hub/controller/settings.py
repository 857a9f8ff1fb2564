"""What the controller is told when it starts: addresses in environment variables, secrets in private files that these name.

===============================  =====================================================================
``AF_FACILITY_FILE``             ``facility.yaml``
``AF_STATE_DIR``                 folder for keys and database, made with mode 0700
``AF_HUB_API_URL``               the hub's API, as in ``http://hub:8081/hub/api``
``AF_CONTROLLER_TOKEN_FILE``     file (0600) with the token of the hub's service ``af-controller``
``AF_PUBLIC_URL``                where people find the hub
``AF_FORWARDER_HOST``, ``_PORT``  where jobs and sessions dial the forwarder
``AF_FORWARDER_HOST_KEY``        its host key, one line of OpenSSH's form
``AF_CONDOR_READER_TOKEN_FILE``  file (0600) with a token that may read the queue
``AF_USER_CA_FILE``              the SSH authority's key (0600); made in the state folder when unset
``AF_DATABASE_URL``              a database, as SQLAlchemy writes it; SQLite in the state folder when unset
===============================  =====================================================================
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from af_hub.errors import AFError
from af_hub.forwarder.login import ForwarderAddress

SERVICE = "af-controller"


class SettingsError(AFError):
    """A setting of the controller is missing or cannot be used."""


@dataclass(frozen=True)
class Settings:
    """See the module."""

    facility: Path
    state: Path
    hub_api_url: str
    token: str = field(repr=False)
    hub_url: str
    forwarder: ForwarderAddress
    reader_token_file: Path
    database_url: str = field(repr=False)
    user_ca_file: Path | None = None

    @property
    def public_url(self) -> str:
        """Where people find the controller."""
        return f"{self.hub_url}services/{SERVICE}/"

    @property
    def prefix(self) -> str:
        """The path of that, which the hub's proxy leaves as it is."""
        return urlsplit(self.public_url).path


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``.

    Raises
    ------
    SettingsError
        With the name of what is missing or wrong.
    """
    state = Path(_get(environ, "AF_STATE_DIR")).absolute()
    port = _get(environ, "AF_FORWARDER_PORT")
    if not port.isdecimal():
        raise SettingsError(f"AF_FORWARDER_PORT is {port!r}; a number was wanted")
    return Settings(
        facility=Path(_get(environ, "AF_FACILITY_FILE")),
        state=state,
        hub_api_url=_get(environ, "AF_HUB_API_URL"),
        token=read_secret(Path(_get(environ, "AF_CONTROLLER_TOKEN_FILE")), "AF_CONTROLLER_TOKEN_FILE"),
        hub_url=_get(environ, "AF_PUBLIC_URL").rstrip("/") + "/",
        forwarder=ForwarderAddress(
            _get(environ, "AF_FORWARDER_HOST"), int(port), _get(environ, "AF_FORWARDER_HOST_KEY")
        ),
        reader_token_file=Path(_get(environ, "AF_CONDOR_READER_TOKEN_FILE")),
        database_url=environ.get("AF_DATABASE_URL") or f"sqlite:///{state / 'controller.sqlite'}",
        user_ca_file=Path(found) if (found := environ.get("AF_USER_CA_FILE")) else None,
    )


def read_secret(path: Path, name: str) -> str:
    """The content of a file that nobody else can read.

    Raises
    ------
    SettingsError
        When it cannot be read, or others can read it too.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{name} names {path}, which cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise SettingsError(f"{name} names {path}, which others can read (mode {mode:o}); `chmod 600` it")
    return secret


def _get(environ: Mapping[str, str], name: str) -> str:
    found = environ.get(name, "")
    if not found:
        raise SettingsError(f"{name} is not set; see the module af_hub.controller.settings")
    return found
