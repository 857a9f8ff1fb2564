"""The kit's files as they lie in the working directory, the sandbox of the job.

Serves agent, scheduler and worker at their start and end. Promises: what did not come is named in one sentence; key files are their owner's
only, and gone in the end. Leaves to :mod:`af_hub.job.kit` what stands in them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from af_hub.errors import JobKitError
from af_hub.forwarder.login import Credentials
from af_hub.job import kit
from af_hub.job.begin import TOKEN_FILE

T = TypeVar("T")


def read_file(name: str, read: Callable[[str], T], folder: Path = Path()) -> T:
    """``read`` of the text of a file of the kit; raises JobKitError when it is not there."""
    try:
        return read((folder / name).read_text())
    except OSError as error:
        raise JobKitError(f"{name} should have come with the job: {error.strerror}") from error


def read_credentials(dask_cluster: str) -> Credentials:
    """Who the job is at the forwarder, from the files in the working directory."""
    return Credentials(f"job:{dask_cluster}", read_file(kit.SSH_KEY, str), read_file(kit.SSH_CERTIFICATE, str))


def protect_secrets() -> None:
    """Make key files readable by their owner only, whatever the transfer made of their modes."""
    for path in map(Path, kit.SECRET_FILES):
        if path.exists():
            path.chmod(0o600)


def remove_secrets() -> None:
    """Remove the key files, and the token that came later."""
    for path in map(Path, (*kit.SECRET_FILES, TOKEN_FILE)):
        path.unlink(missing_ok=True)
