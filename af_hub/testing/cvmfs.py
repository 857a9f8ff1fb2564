"""A stand-in for CVMFS: a real FUSE file system with the extended attributes by which CVMFS is known, and with its ways to fail.

:class:`Repository` mounts one at ``FOLDER/NAME``, where the caller may mount; :class:`MountSpace` is where anybody may. The kernel's part
is the real one: who waits for an answer waits in the kernel, and a mount whose process died says ENOTCONN. Not like CVMFS: there is no
automount, no cache, and nothing comes over a network. Needs the package fuse3 of Debian.

``python -m af_hub.testing.cvmfs MOUNTPOINT`` serves one in the foreground, for people who try something.
"""

import argparse
import errno
import fcntl
import os
import secrets
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from af_hub.ready import say_ready
from af_hub.testing.process import Daemon

FUSE_DEVICE = Path("/dev/fuse")


def why_not() -> str:
    """Why there can be no FUSE here; empty when there can."""
    try:
        FUSE_DEVICE.open("r+b", buffering=0).close()
    except OSError as error:
        return f"{FUSE_DEVICE} cannot be opened ({error.strerror})"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"mfusepy does not find its library ({error}); it comes with Debian's package fuse3"
    return ""


class MountSpace:
    """A mount namespace of its own, where this user may mount; its mounts go with it. ``within`` before a command runs it there."""

    def __init__(self) -> None:
        as_root = [] if os.geteuid() == 0 and _whole_machine() else ["--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *as_root, "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout
        self.works = bool(self._holder.stdout.readline())
        kinds = ["--user", "--preserve-credentials"] if as_root else []
        self.within = ("nsenter", f"--target={self._holder.pid}", "--mount", *kinds, "--")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()


def _whole_machine() -> bool:
    return int(Path("/proc/self/uid_map").read_text().split()[-1]) == 2**32 - 1


class Repository:
    """One repository at ``folder/name``.

    Parameters
    ----------
    room
        A folder for its log and for what makes it hang.
    says
        The name that it gives itself, when that is another.
    attributes
        Whether it shows them; some sites keep them to themselves.
    within
        What stands before commands, as ``MountSpace.within``.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        room: Path,
        *,
        says: str = "",
        attributes: bool = True,
        within: Sequence[str] = (),
    ) -> None:
        self.name, self.mountpoint = name, folder / name
        self._within = tuple(within)
        self._log = room / f"{name}-{secrets.token_hex(4)}.log"
        self._gate = self._log.with_suffix(".gate")
        self._gate.touch()
        self._held: IO[str] | None = None
        self._argv = [
            *self._within,
            *(sys.executable, "-m", "af_hub.testing.cvmfs"),
            *(str(self.mountpoint), "--name", says or name, "--gate", str(self._gate), "--ready-fd", "{ready_fd}"),
            *([] if attributes else ["--no-attributes"]),
        ]
        self._daemon: Daemon | None = None

    def mount(self, revision: int = 1) -> None:
        """Mount it, or mount it anew with this revision."""
        self.unmount()
        self._run("mkdir", "-p", self.mountpoint)
        self._daemon = Daemon(f"cvmfs {self.name}", [*self._argv, "--revision", str(revision)], self._log).start()
        self._daemon.ready()

    def hang(self) -> None:
        """From now on every answer waits."""
        self._held = self._gate.open()
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def answer(self) -> None:
        """Give the answers that wait, and answer again."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def kill(self) -> None:
        """Kill its process and leave the mount, which nobody answers for."""
        if self._daemon is not None:
            self._daemon.stop(first=signal.SIGKILL)
            self._daemon = None
        self.answer()

    def unmount(self) -> None:
        """Take the mount away, whoever uses it, and leave the folder; does nothing when there is none."""
        self._run("umount", "--lazy", "--quiet", self.mountpoint, check=False)
        self.kill()

    def _run(self, *argv: object, check: bool = True) -> None:
        done = subprocess.run([*self._within, *map(str, argv)], capture_output=True, text=True, timeout=30)
        if check and done.returncode:
            raise OSError(f"{argv[0]}: {done.stderr.strip()}")


# --- the file system ---------------------------------------------------------------------------------------------------


class FileSystem:
    """Two files, as mfusepy asks for them.

    Parameters
    ----------
    gate
        A file; while somebody holds a lock on it (``flock``), nothing answers.
    ready_fd
        Descriptor for the line that says that it is mounted.
    """

    use_ns = True

    def __init__(self, name: str, revision: int, attributes: bool, gate: Path | None, ready_fd: int | None) -> None:
        self._files = {"/README": b"A stand-in for CVMFS.\n", "/revision": b"%d\n" % revision}
        found = {"user.fqrn": name, "user.revision": str(revision), "user.version": "2.11.5", "user.nioerr": "0"}
        self._attributes = found if attributes else {}
        self._gate, self._ready_fd = gate, ready_fd

    def init(self, path: str) -> None:
        """The kernel knows the mount now."""
        say_ready(self._ready_fd)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """As stat(2)."""
        self._pass()
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in self._files:
            raise OSError(errno.ENOENT, path)
        return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": len(self._files[path])}

    def readdir(self, path: str, fh: int) -> list[str]:
        """As readdir(3)."""
        self._pass()
        return [".", "..", *(name[1:] for name in self._files)]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """As pread(2)."""
        self._pass()
        return self._files[path][offset : offset + size]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """As getxattr(2)."""
        self._pass()
        if name not in self._attributes:
            raise OSError(errno.ENODATA, name)
        return self._attributes[name].encode()

    def listxattr(self, path: str) -> list[str]:
        """As listxattr(2)."""
        return list(self._attributes)

    def _pass(self) -> None:
        if self._gate is not None:
            with self._gate.open() as gate:
                fcntl.flock(gate, fcntl.LOCK_SH)


def main() -> None:
    """``python -m af_hub.testing.cvmfs MOUNTPOINT --name cms.cern.ch``."""
    parser = argparse.ArgumentParser(prog="af_hub.testing.cvmfs", description=__doc__.partition("\n")[0])
    parser.add_argument("mountpoint")
    parser.add_argument("--name", default="cms.cern.ch", help="what it says its name is")
    parser.add_argument("--revision", type=int, default=1)
    parser.add_argument("--no-attributes", dest="attributes", action="store_false")
    parser.add_argument("--gate", type=Path, help="a file; while somebody holds a lock on it (flock), nothing answers")
    parser.add_argument("--ready-fd", type=int)
    args = parser.parse_args()
    import mfusepy

    files = FileSystem(args.name, args.revision, args.attributes, args.gate, args.ready_fd)
    options = {"allow_other": True} if os.geteuid() == 0 else {}
    mfusepy.FUSE(files, args.mountpoint, foreground=True, ro=True, fsname="cvmfs2", **options)


if __name__ == "__main__":
    main()
