"""A place with many accounts: ``python -m af_hub.testing.accounts PROGRAM ARGUMENTS…`` runs a program where it may become root.

For tests of what a worker node does whose HTCondor is started as root. The program runs as an ordinary user, with the machine's own
files, in namespaces of its own (users, mounts, processes, network): there it becomes root by putting :data:`AS_ROOT` before a command,
and root may become anybody else, such as the :data:`SLOT_ACCOUNTS`. None of them is anybody outside. :data:`ROOM` is an empty folder that
all of them may enter. Made by root directly, by others with ``newuidmap`` and a range in ``/etc/subuid``. Everything that
was started ends with the program; what cannot be had here is told to the program in ``AF_NO_ACCOUNTS``.
"""

import ctypes
import fcntl
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, SIGKILL = 1, 9

# `env`, because only a program that root has started has root's rights, and those are needed to find some programs.
AS_ROOT = ("setpriv", "--reuid=0", "--regid=0", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "env")
MAY_BECOME_ROOT = ("--clear-groups", "--inh-caps=+setuid,+setgid,+kill", "--ambient-caps=+setuid,+setgid,+kill")
NOBODY, FIRST_OUTSIDE, MANY = 65534, 1_000_000, 65_000
SLOT_ACCOUNTS = {f"af-slot-{number}": 60000 + number for number in range(1, 7)}
ROOM = Path("/mnt")
REASON = "AF_NO_ACCOUNTS"


def who(uid: int) -> int:
    """Which user the program is inside."""
    return uid or NOBODY


def id_map(uid: int, first: int, count: int) -> list[tuple[int, int, int]]:
    """Lines of ``uid_map`` (user_namespaces(7)): our own user, and below and above it others, outside ``first`` and following."""
    own = who(uid)
    below = min(count, own)
    lines = [(0, first, below), (own, uid, 1), (own + 1, first + below, count - below)]
    return [line for line in lines if line[2]]


def subordinate(path: Path, uid: int) -> tuple[int, int]:
    """The range of ids that ``/etc/subuid`` or ``/etc/subgid`` gives to a user, first and count; count 0 when none."""
    names = (str(uid), pwd.getpwuid(uid).pw_name)
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.split(":") for line in lines if line.split(":")[0] in names]
    return (int(found[0][1]), int(found[0][2])) if found else (0, 0)


def why_not() -> str:
    """Why this user cannot have accounts here; empty when they can."""
    if not shutil.which("setpriv"):
        return "there is no program setpriv; it comes with util-linux"
    if os.geteuid() == 0:
        whole = Path("/proc/self/uid_map").read_text().split()[-1]
        return "" if int(whole) > FIRST_OUTSIDE + MANY else "this root is one of a user namespace with few users"
    if not shutil.which("newuidmap"):
        return "other users than one's own need root, or the program newuidmap (Debian's package uidmap)"
    for name in ("subuid", "subgid"):
        if subordinate(Path("/etc", name), os.getuid())[1] < MANY:
            return f"/etc/{name} gives this user fewer than {MANY} ids"
    return ""


def write_maps(process: int) -> None:
    """Say to the kernel who is who in the user namespace of ``process``."""
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        root = os.geteuid() == 0
        first, count = (FIRST_OUTSIDE, MANY) if root else subordinate(Path(f"/etc/sub{kind}"), os.getuid())
        lines = id_map(own, first, count)
        if root:
            Path(f"/proc/{process}/{kind}_map").write_text("\n".join(" ".join(map(str, line)) for line in lines))
        else:
            subprocess.run([f"new{kind}map", str(process), *(str(one) for line in lines for one in line)], check=True)


def libc(call: str, *arguments: int | bytes | None) -> None:
    """A call of the C library that Python does not have."""
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments):
        raise OSError(ctypes.get_errno(), call)


def run(argv: Sequence[str]) -> int:
    """Run the program in its namespaces; its exit status."""
    made, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        libc("prctl", PR_SET_PDEATHSIG, SIGKILL)
        libc("unshare", NEWUSER | NEWNS | NEWIPC | NEWPID | NEWNET)
        os.write(made[1], b"\n")
        os.read(go[0], 1)
        os._exit(inside(argv))
    os.read(made[0], 1)
    write_maps(child)
    os.write(go[1], b"\n")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def inside(argv: Sequence[str]) -> int:
    """In the new namespaces, with all rights over them: a first process that runs the program, and with which all others end."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    first = os.fork()
    if first == 0:
        libc("prctl", PR_SET_PDEATHSIG, SIGKILL)
        uid, gid = os.getuid(), os.getgid()
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        furnish()
        # Kept, since a Popen that nobody has buries its process itself.
        program = subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={gid}", *MAY_BECOME_ROOT, *argv])
        while True:
            ended, status = os.wait()
            if ended == program.pid:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def furnish() -> None:
    """Own processes in ``/proc``, an empty folder for all, and names for the accounts."""
    # Not the program mount: its setuid bit makes it the machine's root, who is nobody here.
    libc("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    libc("mount", b"proc", b"/proc", b"proc", 0, None)
    libc("mount", b"tmpfs", os.fsencode(ROOM), b"tmpfs", 0, b"mode=1777")
    for name, line in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/usr/sbin/nologin"), ("group", "{0}:x:{1}:")):
        text = Path("/etc", name).read_text() + "\n".join(line.format(*one) for one in SLOT_ACCOUNTS.items()) + "\n"
        (ROOM / name).write_text(text)
        (ROOM / name).chmod(0o644)
        libc("mount", os.fsencode(ROOM / name), f"/etc/{name}".encode(), None, MS_BIND, None)


def main() -> None:
    """Run the program with accounts, or tell it why there are none."""
    argv = sys.argv[1:]
    if reason := why_not():
        os.environ[REASON] = reason
        os.execvp(argv[0], argv)  # noqa: S606
    sys.exit(run(argv))


if __name__ == "__main__":
    main()
