"""What ``af login`` leaves on a laptop: a token of each hub, in one file of mode 0600, and which hub was the last.

``$XDG_CONFIG_HOME/af/logins.json``, ``~/.config/af/logins.json`` when that is not set. Inside of a session of the facility no file is
needed: the session's own token of the hub stands in its environment.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from af_hub.errors import LoginRequired, Unavailable
from af_hub.files import private_folder, write_private

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class HubLogin:
    """A token of one hub.

    Parameters
    ----------
    hub
        Where it is asked; ends with a slash.
    expires_at
        In Unix seconds; None when nobody said, as inside of a session.
    token_file, token_mark
        Where an access token was put last, and what tells whether it is still that one; never the token itself.
    controller
        Where the controller is, with a slash; below the hub's address when empty.
    public
        What people type in a browser, where ``hub`` is another way there.
    """

    hub: str
    token: str = field(repr=False)
    username: str = ""
    expires_at: float | None = None
    token_file: str = ""
    token_mark: str = ""
    controller: str = ""
    public: str = ""

    @property
    def address(self) -> str:
        """The hub as people know it."""
        return self.public or self.hub


def read_address(typed: str) -> str:
    """The hub's address, with its slash, out of what somebody typed or copied from a browser.

    Raises
    ------
    Unavailable
        When it is none, or when a token would travel in clear over a network.
    """
    text = typed.strip()
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise Unavailable(f"{typed!r:.100} is no address of a hub; write it as in `af login https://hub.example.org/`.")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise Unavailable(f"{host} would be spoken to without encryption; write https:// in front.")
    path = parts.path.partition("/hub/")[0].rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{'' if path == '/hub' else path.removesuffix('/hub')}/"


def login_file(environ: Mapping[str, str]) -> Path:
    """Where logins are kept."""
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "af" / "logins.json"


class Logins:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, login: HubLogin) -> None:
        """Remember a login; it is the last one from now on."""
        found = self._read()
        found["hubs"][login.hub] = asdict(login)
        found["last"] = login.hub
        self._write(found)

    def forget(self, hub: str) -> None:
        """Remember it no longer."""
        found = self._read()
        found["hubs"].pop(hub, None)
        if found["last"] == hub:
            found["last"] = next(iter(found["hubs"]), "")
        self._write(found)

    def get(self, hub: str = "") -> HubLogin:
        """The login at this hub, or the last one.

        Raises
        ------
        LoginRequired
            When there is none.
        """
        found = self._read()
        kept = found["hubs"].get(hub or found["last"])
        if kept is None:
            where = f" at {hub}" if hub else ""
            raise LoginRequired(f"You are not logged in{where}; run `af login {hub or 'https://HUB/'}`.")
        return HubLogin(**kept)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
            hubs = {hub: asdict(HubLogin(**login)) for hub, login in found["hubs"].items()}
            return {"last": str(found["last"]), "hubs": hubs}
        except FileNotFoundError:
            return {"last": "", "hubs": {}}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Unavailable(
                f"{self.path} cannot be read ({type(error).__name__}); remove it, and log in again."
            ) from None

    def _write(self, found: dict[str, Any]) -> None:
        try:
            private_folder(self.path.parent)
            write_private(self.path, json.dumps(found, indent=1) + "\n")
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be written ({error.strerror}).") from error


def mark_of(token: str) -> str:
    """What tells whether a file still holds this token."""
    return hashlib.sha256(token.encode()).hexdigest()


def session_login(environ: Mapping[str, str]) -> HubLogin | None:
    """The login that every session of the facility has; None elsewhere."""
    api, token = environ.get("JUPYTERHUB_API_URL", ""), environ.get("JUPYTERHUB_API_TOKEN", "")
    if not api or not token:
        return None
    # The hub's own port is not the proxy's: nothing but the hub is found there.
    return HubLogin(
        hub=api.rstrip("/").removesuffix("hub/api"),
        token=token,
        username=environ.get("JUPYTERHUB_USER", ""),
        controller=environ.get("AF_CONTROLLER_URL", ""),
        public=environ.get("JUPYTERHUB_PUBLIC_HUB_URL", "").removesuffix("hub/"),
    )
