"""How much memory each process takes: its proportional share (PSS, proc(5)), so that a sum is what the machine gives."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from af_hub.session.processes import descendants

PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def pss(pid: int) -> float:
    """MiB; 0 of a process that is gone."""
    with suppress(OSError):
        if found := PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text()):
            return int(found[1]) / 1024
    return 0.0


def command(pid: int) -> str:
    """Its command line."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def parent(pid: int) -> int:
    """The parent's number; 0 of a process that is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def weigh(names: Mapping[str, str]) -> dict[str, list[float]]:
    """MiB of the processes below us, by name.

    Parameters
    ----------
    names
        For each name what the command line holds. Of ``A > B`` the process is a child of one with A that holds B itself.
    """
    below = descendants(os.getpid())
    commands = {pid: command(pid) for pid in below}
    return {name: [pss(pid) for pid in sorted(find(words, commands))] for name, words in names.items()}


def find(words: str, commands: Mapping[int, str]) -> Iterable[int]:
    """The processes with that chain of words in their command lines, child after parent."""
    *above, own = words.split(" > ")
    for pid, line in commands.items():
        chain, up = list(reversed(above)), parent(pid)
        if own not in line:
            continue
        for step in chain:
            if step not in commands.get(up, ""):
                break
            up = parent(up)
        else:
            yield pid
