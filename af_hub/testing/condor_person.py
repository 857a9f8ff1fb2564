"""Somebody who comes to a real pool with a token of an IAM: whom the pool takes them for.

For the tests of other pools and other IAMs; asks with HTCondor's own tool, so that nothing of ours is between token and pool.
"""

import subprocess
from pathlib import Path

from af_hub.condor import operation
from af_hub.errors import Unavailable
from af_hub.files import private_folder, write_private
from af_hub.testing.condor import TOOL_SECONDS, RealPool


def account_of(pool: RealPool, token: str, folder: Path) -> str | None:
    """The account, without its domain, that the access point gives to whoever shows this token; None when it lets them do nothing.

    Parameters
    ----------
    folder
        For the token's file, which is gone again afterwards.
    """
    private_folder(folder)
    file = write_private(folder / "token", token)
    asked = {"collector": pool.collector, "ca_file": str(pool.ca_file), "token_file": str(file)}
    environ = operation.settings(asked) | {"PATH": f"{pool.prefix}/usr/bin:/usr/bin:/bin", "HOME": str(folder)}
    argv = [str(pool.prefix / "usr/bin/condor_ping"), "-type", "schedd", "-name", pool.schedd, "-table", "WRITE"]
    try:
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"condor_ping took more than {TOOL_SECONDS} s") from error
    finally:
        file.unlink()
    return read_account(done.stdout)


def read_account(table: str) -> str | None:
    """Who somebody is, out of ``condor_ping -table WRITE``."""
    for line in table.splitlines():
        words = line.split()
        if words[:1] == ["WRITE"] and "ALLOW" in words:
            return words[-1].partition("@")[0]
    return None
