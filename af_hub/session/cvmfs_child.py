"""One look at one repository, by a process that may never come back: ``python -I -S cvmfs_child.py PATH`` writes one line of JSON.

The kernel lets nobody interrupt, not even kill, a process that waits for an answer of a hung file system; so whoever wants to know asks
this one, and does not wait for its end (:mod:`af_hub.session.cvmfs_look`). It imports nothing of ours.
"""

import errno
import json
import os
import sys

# Withheld (CVMFS_XATTR_PROTECTED_XATTRS), or a file system without attributes.
WITHHELD = (errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.ENOSYS)


def look(path: str) -> dict[str, object]:
    """What is there; see :func:`af_hub.session.cvmfs.read_look`."""
    try:
        with os.scandir(path) as entries:  # listing is what has automount mount it
            some = next(entries, None) is not None
        fqrn, revision = attribute(path, "user.fqrn"), attribute(path, "user.revision")
    except OSError as error:
        return {"errno": error.errno, "strerror": error.strerror}
    return {
        "entries": some,
        "fqrn": fqrn,
        "revision": int(revision) if revision.isdigit() else None,
        "cvmfs": cvmfs_at(path),
    }


def attribute(path: str, name: str) -> str:
    """An extended attribute; empty when there is none, or none for us."""
    try:
        return os.getxattr(path, name).decode(errors="replace")
    except OSError as error:
        if error.errno in WITHHELD:
            return ""
        raise


def cvmfs_at(path: str) -> bool:
    """Whether the kernel's table has CVMFS mounted there, last of all (proc(5), /proc/pid/mountinfo)."""
    found = False
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123 (no pathlib: 10 ms)
        for line in table:
            before, _, after = line.partition(" - ")
            if before.split()[4] == path:
                kind, source = after.split()[:2]
                found = kind == "fuse.cvmfs2" or (kind == "fuse" and source == "cvmfs2")
    return found


if __name__ == "__main__":
    os.write(1, json.dumps(look(sys.argv[1])).encode())
