"""Cgroups of its own for a machine that is made of namespaces, of version 1, 2 or both, whatever this kernel has mounted.

For :mod:`af_hub.testing.kube_machine`. The machine's groups lie below the one that its maker is in, and inside they look like the
whole tree (cgroup_namespaces(7)). What a killed machine left is taken away when the next one is made.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from af_hub.testing.accounts import libc
from af_hub.testing.debian import cache_folder

CGROUPS = Path("/sys/fs/cgroup")
NAME = "af-kube"
# Empty in a new group, and then nobody may enter (cpuset(7)).
CPUSET = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree of cgroups: where, of which type, with which options, and the group that we are in."""

    point: Path
    kind: str
    options: str
    place: Path

    @property
    def parent(self) -> Path:
        """Where the machine's group goes. In version 2 only the root may have processes and children with controllers."""
        return self.point if self.kind == "cgroup2" else self.place


def read_hierarchies(mountinfo: str, own: str) -> list[Hierarchy]:
    """The trees of ``/proc/self/mountinfo`` with our places of ``/proc/self/cgroup`` (proc(5), cgroups(7)); the first mount of each counts."""
    places = {names: place for _, names, place in (line.split(":", 2) for line in own.splitlines())}
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split()
        if kind not in ("cgroup", "cgroup2") or root.startswith("/.."):  # a tree from outside of our cgroup namespace
            continue
        given = options.split(",")
        names = (
            ""
            if kind == "cgroup2"
            else next((one for one in places if one and set(one.split(",")) <= set(given)), None)
        )
        if names in places and names not in found:
            below = os.path.relpath(places[names], root) if places[names].startswith(root) else "."
            kept = ",".join(option for option in given if option not in ("rw", "ro"))
            found[names] = Hierarchy(Path(point), kind, kept, Path(point, below))
    return list(found.values())


def hierarchies() -> list[Hierarchy]:
    """The trees of this machine."""
    return read_hierarchies(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())


def enter_cgroups(process: int) -> list[Path]:
    """Make a group in each tree for a new machine and move its first process there; the groups."""
    groups = []
    with alone():
        for tree in hierarchies():
            remove_cgroups(tree.parent.glob(f"{NAME}-*"))
            group = tree.parent / f"{NAME}-{os.getpid()}"
            group.mkdir()
            allow(group, tree.kind)
            (group / "cgroup.procs").write_text(str(process))
            groups.append(group)
    return groups


@contextmanager
def alone() -> Iterator[None]:
    """While nobody else makes groups for a machine: a new group without processes looks like one that was left."""
    lock = cache_folder() / ".kube-cgroups.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def allow(group: Path, kind: str) -> None:
    """Let processes into a new group, and let it have controllers as far as its parent has."""
    if kind == "cgroup2":
        give_controllers(group.parent)
    for name in CPUSET:
        if kind == "cgroup" and (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def give_controllers(group: Path) -> None:
    """Let the children of a group of version 2 use what the group itself may use."""
    for controller in (group / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def leave_root(trees: Iterable[Hierarchy]) -> None:
    """Go one down from the machine's group: version 2 gives no controllers to children of a group with processes."""
    for tree in trees:
        if tree.kind == "cgroup2":
            below = tree.place / "machine"
            below.mkdir()
            (below / "cgroup.procs").write_text("0")
            give_controllers(tree.place)


def mount_cgroups(trees: Sequence[Hierarchy]) -> None:
    """Mount the same trees where they were; in a cgroup namespace they begin at the machine's group."""
    if all(tree.point != CGROUPS for tree in trees):
        libc("mount", b"tmpfs", os.fsencode(CGROUPS), b"tmpfs", 0, b"mode=755")
    for tree in trees:
        tree.point.mkdir(exist_ok=True)
        libc("mount", b"cgroup", os.fsencode(tree.point), tree.kind.encode(), 0, tree.options.encode())


def remove_cgroups(groups: Iterable[Path]) -> None:
    """Take groups away with all below them, as far as no process is in one of them."""
    for group in groups:
        with suppress(OSError):
            remove_cgroups([path for path in group.iterdir() if path.is_dir()])
            group.rmdir()
