"""The demo as the place of measurement: started, logged in to, with kernels in which the programs of ``in_kernel/`` run."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from af_hub.condor.operation import settings
from af_hub.demo import check
from af_hub.demo.notebook import open_kernel
from af_hub.files import write_private
from af_hub.testing.browser import sign_in
from af_hub.testing.process import Daemon

CHECKOUT = Path(__file__).parents[2]
USER, IMAGE, SITE, SITE_ADDRESS = check.USER, check.IMAGE, "T2_A", "127.0.1.1"
MEMORY = "2 GiB"
START_SECONDS, CELL_SECONDS, EMPTY_SECONDS = 120, 120, 60


@dataclass
class Place:
    """A demo that runs, and somebody's session in it."""

    folder: Path
    facts: dict[str, Any]
    browser: httpx.Client

    def run(self, program: str, **parameters: object) -> dict[str, Any]:
        """The figures of a program of ``in_kernel/``."""
        with self.kept(program, **parameters) as said:
            return said

    @contextmanager
    def kept(self, program: str, **parameters: object) -> Iterator[dict[str, Any]]:
        """The same, with what it has begun up meanwhile; in a kernel as new as that of whoever opens a notebook."""
        code = (Path(__file__).parent / "in_kernel" / f"{program}.py").read_text()
        call = f"\nimport json\nup = measured(**{parameters!r})\nprint(json.dumps(next(up)))\n"
        with open_kernel(self.browser, f"/user/{USER}/") as kernel:
            printed = kernel.run(code + call, CELL_SECONDS)
            try:
                yield json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
            finally:
                kernel.run("list(up)", CELL_SECONDS)

    def settle(self) -> None:
        """Wait until the queue is empty, so that no run disturbs the next."""
        check.wait_until(lambda: not check.jobs(self.facts), "the queue is empty", EMPTY_SECONDS)

    def condor_environment(self) -> dict[str, str]:
        """The analyst at HTCondor's own tools and bindings: the token that the controller would use, from a file."""
        secret = Path(self.facts["folder"], "hub", "controller_token").read_text()
        answer = httpx.post(
            f"{self.facts['url']}hub/api/af/token/condor",
            json={"username": USER},
            headers={"Authorization": f"token {secret}"},
        ).raise_for_status()
        file = write_private(self.folder / "condor-token", answer.json()["access_token"])
        names = {"collector": self.facts["collector"], "ca_file": self.facts["pool_ca"], "token_file": str(file)}
        tools = f"{self.facts['condor_prefix']}/usr/bin"
        return settings(names) | {"_condor_SCHEDD_HOST": self.facts["schedd"], "PATH": f"{tools}:/usr/bin:/bin"}


@contextmanager
def running(folder: Path) -> Iterator[Place]:
    """A demo in ``folder`` with a session of the CMS analyst, taken down afterwards."""
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(folder / "demo"), "--port", "0"]
    with Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], folder / "demo.log") as demo:
        try:
            facts = demo.ready(START_SECONDS)
            with closing(sign_in(facts["url"], USER)) as browser:
                check.spawn(browser, USER, IMAGE)
                yield Place(folder, facts, browser)
        finally:
            demo.stop(grace=40)
