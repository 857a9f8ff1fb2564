"""A machine of its own for a Kubernetes: ``python -m af_hub.testing.kube_machine PROGRAM ARGUMENTS…`` runs a program as root in it.

For what the nodes of a cluster do to a machine: addresses, firewall, mounts, cgroups, folders whose paths nobody can choose. The program
has namespaces of its own (network, mounts, processes, cgroups), the machine's files, and loopback; several such machines live side by
side with the same addresses inside. Everything that was started ends with the program, however it ends, and nothing is left.
The network outside is not there; :data:`OUTSIDE` before a command lends it. What cannot be had is told to the program in ``AF_NO_KUBE``.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from struct import pack

from af_hub.testing.accounts import (
    IFF_UP,
    MS_BIND,
    MS_REC,
    NEWIPC,
    NEWNET,
    NEWNS,
    NEWPID,
    PR_SET_PDEATHSIG,
    SIGKILL,
    SIOCSIFFLAGS,
    libc,
)
from af_hub.testing.debian import cache_folder
from af_hub.testing.kube_cgroups import Hierarchy, enter_cgroups, hierarchies, leave_root, mount_cgroups, remove_cgroups

NEWCGROUP = 0x02000000
MS_SHARED, MS_SLAVE = 0x100000, 0x80000

REASON, INSIDE = "AF_NO_KUBE", "AF_KUBE_MACHINE"
OUTER_NETWORK = Path("/run/af-outer-network")
OUTSIDE = ("nsenter", f"--net={OUTER_NETWORK}", "--")
# Kubelet and CNI write here, whatever they are told; inside they write into memory.
OWN_FOLDERS = tuple(map(Path, ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")))


def why_not() -> str:
    """Why this user cannot have such a machine here; empty when they can."""
    if os.geteuid() != 0:
        return "a real Kubernetes needs root: its nodes make network interfaces, mounts and containers"
    if int(Path("/proc/self/uid_map").read_text().split()[-1]) < 2**32 - 1:
        return "a real Kubernetes needs the machine's root, and this root is one of a user namespace"
    if not shutil.which("nsenter"):
        return "there is no program nsenter; it comes with util-linux"
    return ""


def run(argv: Sequence[str]) -> int:
    """Run the program in a machine of its own; its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which then ends what it started
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # and so is this, as soon as there is the program
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        libc("prctl", PR_SET_PDEATHSIG, SIGKILL)
        os.close(write)
        os._exit(inside(argv) if os.read(read, 1) else 1)
    groups = enter_cgroups(child)
    pass_on_end(child)
    os.write(write, b"\n")
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        remove_cgroups(groups)


def pass_on_end(process: int) -> None:
    """Who tells us to end means that process."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(process, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def inside(argv: Sequence[str]) -> int:
    """Make the namespaces, and in them a first process, with which all others end."""
    trees, outer = hierarchies(), os.open("/proc/self/ns/net", os.O_RDONLY)
    libc("unshare", NEWNS | NEWIPC | NEWPID | NEWNET | NEWCGROUP)
    leave_root(trees)
    first = os.fork()
    if first == 0:
        libc("prctl", PR_SET_PDEATHSIG, SIGKILL)
        furnish(trees, outer)
        os._exit(run_first(argv))
    os.close(outer)
    pass_on_end(first)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def run_first(argv: Sequence[str]) -> int:
    """Run the program as the first process of the machine does: bury orphans too."""
    with socket.socket() as any_socket:
        ioctl(any_socket, SIOCSIFFLAGS, pack("16sH14x", b"lo", IFF_UP))
    # Open files come along: a socket that listens belongs to the network where it was made.
    program = subprocess.Popen(argv, env={**os.environ, INSIDE: "1"}, close_fds=False, preexec_fn=listen)
    pass_on_end(program.pid)
    while True:
        ended, status = os.wait()
        if ended == program.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code  # as shells say it


def listen() -> None:
    """What :func:`run` does not hear, a program that it starts would not hear either."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def furnish(trees: Sequence[Hierarchy], outer: int) -> None:
    """The machine's files with own processes, links and cgroups, and with memory where nodes leave things.

    Mounts are shared inside, since containers that see later mounts of their node (``HostToContainer``) need it, and come in from outside only.
    """
    libc("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    libc("mount", b"proc", b"/proc", b"proc", 0, None)
    names = Path("/etc/resolv.conf")
    servers = names.read_bytes() if names.exists() else b""
    libc("mount", b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755")
    Path("/run/lock").mkdir(mode=0o1777)
    if not names.exists():  # a link to a file below /run
        names.resolve().parent.mkdir(parents=True, exist_ok=True)
        names.resolve().write_bytes(servers)
    OUTER_NETWORK.touch()
    libc("mount", b"/proc/self/fd/%d" % outer, os.fsencode(OUTER_NETWORK), None, MS_BIND, None)
    own_folders()
    libc("mount", b"sysfs", b"/sys", b"sysfs", 0, None)
    mount_cgroups(trees)
    libc("mount", None, b"/", None, MS_REC | MS_SHARED, None)


def own_folders() -> None:
    """Empty folders in memory where nodes leave things, also where the machine has no such folders, and shall get none."""
    for parent in sorted({folder.parent for folder in OWN_FOLDERS if not folder.exists()}):
        overlay(parent)
    for folder in OWN_FOLDERS:
        folder.mkdir(exist_ok=True)
        libc("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"mode=755")


def overlay(folder: Path) -> None:
    """What is written below ``folder`` goes to memory, except where our own files are: those in use, and the user's cache."""
    own = {Path.cwd(), Path.home(), cache_folder(), Path(tempfile.gettempdir()), Path(sys.prefix)}
    kept = {path: os.open(path, os.O_PATH) for path in sorted(own) if path.is_relative_to(folder) and path.exists()}
    upper, work = (Path("/run/af-overlay", folder.name, part) for part in ("upper", "work"))
    for path in (upper, work):
        path.mkdir(parents=True)
    libc(
        "mount",
        b"overlay",
        os.fsencode(folder),
        b"overlay",
        0,
        f"lowerdir={folder},upperdir={upper},workdir={work}".encode(),
    )
    for path, opened in kept.items():
        libc("mount", b"/proc/self/fd/%d" % opened, os.fsencode(path), None, MS_BIND | MS_REC, None)
        os.close(opened)


def main() -> None:
    """Run the program in a machine for a Kubernetes, or tell it why there is none."""
    argv = sys.argv[1:]
    if reason := why_not():
        os.environ[REASON] = reason
        os.execvp(argv[0], argv)  # noqa: S606
    sys.exit(run(argv))


if __name__ == "__main__":
    main()
