"""One machine of the real pool: its ``condor_master`` under a keeper, and what the logs below it say when it fails.

Serves :mod:`af_hub.testing.condor`. A master lives on when what it runs dies at once, again and again, and says nothing on its standard
output; so here are the questions that whoever waits for it asks.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from af_hub.testing.process import Daemon, how_it_ended

# MasterLog, HTCondor 23: "The STARTD (pid 31191) exited with status 4", "... died due to signal 9".
DEATH = re.compile(r"The (\w+) \(pid \d+\) (?:exited with status|died due to signal) \d+")
ERRORS, LAST = 4, 6


@dataclass
class Master(Daemon):
    """A ``condor_master``; its folder ``log`` holds the logs of all that it runs."""

    def log_tail(self, lines: int = 15) -> str:
        """What the daemons of this machine said of errors, and the master's last lines."""
        said = [line for log in sorted(self.log.parent.glob("*Log")) for line in self._lines(log) if "ERROR" in line]
        return "\n".join([*self._lines(self.log), *said[-ERRORS:], *self._lines(self._master_log)[-LAST:]][-lines:])

    def illness(self) -> str:
        """Why nothing will come of this machine, as a sentence; empty while it is well."""
        deaths = Counter(DEATH.findall("\n".join(self._lines(self._master_log))))
        if fallen := next((name for name, number in deaths.items() if number > 1), ""):
            return f"{fallen} under {self.name} ends again and again; the logs there end:\n{self.log_tail()}"
        if self.process is not None and not self.alive():
            return (
                f"{self.name} ended ({how_it_ended(self.process.returncode)}); the logs there end:\n{self.log_tail()}"
            )
        return ""

    @property
    def _master_log(self) -> Path:
        return self.log.parent / "MasterLog"

    @staticmethod
    def _lines(log: Path) -> list[str]:
        try:
            return log.read_text(errors="replace").splitlines()
        except OSError:
            return []
