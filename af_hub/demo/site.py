"""What ``af-hub check site`` needs of a running demo: its pool, and the operator's part of making credentials for two accounts.

Serves the person at the terminal where the demo runs, who is all of its people and its operator in one.
"""

import json
import os
from pathlib import Path

from af_hub.condor.check_site import SiteCheck, plan_check
from af_hub.errors import Unavailable
from af_hub.testing.condor import RealPool

FACTS = "facts.json"
ACCOUNTS = ("af-check-1", "af-check-2")


def plan_check_of_demo(folder: Path, facility_file: Path, site: str) -> SiteCheck:
    """The check of a site of the demo in ``folder``.

    Raises
    ------
    Unavailable
        When none runs there.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError) as error:
        wanted = "start `make demo` in another terminal, or give two files by --credential"
        raise Unavailable(f"no demo runs in {folder}: {wanted}") from error
    pool = RealPool(Path(facts["pool_folder"]), Path(facts["condor_prefix"]), collector=facts["collector"])
    return plan_check(
        facility_file, os.environ | facts["environment"], site, [pool.credential(name) for name in ACCOUNTS]
    )
