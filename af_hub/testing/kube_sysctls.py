"""Starts a kubelet that changes nothing of the whole machine: ``python -m af_hub.testing.kube_sysctls FOLDER PROGRAM ARGUMENTS…``.

The kubelet sets some sysctls that no namespace has for itself. In a mount namespace of its own, whose other mounts stay shared with the node's,
it is shown files of FOLDER in their places, which say what it wants to hear.
"""

import os
import sys
from pathlib import Path

from af_hub.testing.accounts import MS_BIND, MS_PRIVATE, NEWNS, libc

WANTED = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def show(folder: Path) -> None:
    """Put our files in the places of the machine's, for this process and its children alone."""
    libc("unshare", NEWNS)
    libc("mount", None, b"/proc", None, MS_PRIVATE, None)
    for name, value in WANTED.items():
        place, shown = Path("/proc/sys", name), folder / name
        if place.exists():
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.write_text(f"{value}\n")
            libc("mount", os.fsencode(shown), os.fsencode(place), None, MS_BIND, None)


def main() -> None:
    """Become the program."""
    show(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
