"""CVMFS in a session: the mount, and what can be said of a repository that was looked at.

Serves the hop "software". Promises: a repository that is mounted, or mounted again, while the session runs is seen in it; one that does
not work is told with its name, what that means and what helps, and never keeps a session from starting. Leaves mounting to the node
(the CSI driver, or its administrator), looking to :mod:`af_hub.session.cvmfs_look`.
"""

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from af_hub.session.fragments import SessionFragment

if TYPE_CHECKING:  # the session agent reads states from here, and has no pydantic
    from af_hub.policy.sessions import CVMFS

FOLDER = "/cvmfs"
REPOSITORIES = "AF_CVMFS_REPOSITORIES"
"""Names of repositories with commas between, for whoever looks whether they work."""

VOLUME = "cvmfs"
# Without propagation a session would never see what is mounted after its start, and would have an empty folder for it, or ELOOP
# where automount makes it (cvmfs-csi's documentation). Read-only mounts below stay what they are.
MOUNT = {"mountPath": FOLDER, "mountPropagation": "HostToContainer", "readOnly": True}


def cvmfs_fragment(cvmfs: "CVMFS") -> SessionFragment:
    """CVMFS as the facility has it; without claim and path only the names of the repositories."""
    source: dict[str, Any] = {}
    if cvmfs.claim:
        source = {VOLUME: {"persistentVolumeClaim": {"claimName": cvmfs.claim}}}
    elif cvmfs.host_path:
        # A node without it has an empty folder then, and the session starts and says so.
        source = {VOLUME: {"hostPath": {"path": cvmfs.host_path, "type": "DirectoryOrCreate"}}}
    return SessionFragment(
        environment={REPOSITORIES: ",".join(cvmfs.repositories)} if cvmfs.repositories else {},
        volumes=source,
        mounts=dict.fromkeys(source, MOUNT),
        agent_mounts=dict.fromkeys(source, MOUNT),
    )


def read_repositories(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names in ``AF_CVMFS_REPOSITORIES``, each once."""
    return tuple(dict.fromkeys(name for name in environ.get(REPOSITORIES, "").split(",") if name))


class State(StrEnum):
    """What a repository can be, seen from inside a session."""

    OK = "ok"
    NOT_MOUNTED = "not mounted"
    HUNG = "hung"
    EMPTY = "empty"
    WRONG = "wrong repository"
    LOOP = "symlink loop"
    BROKEN = "transport broken"
    NOT_CVMFS = "not CVMFS"


@dataclass(frozen=True)
class Repository:
    """One that was looked at.

    Parameters
    ----------
    revision
        Of its content, which grows with each publication; None when CVMFS keeps it to itself.
    detail
        What was found, where the state alone does not say: another name, a system's error.
    """

    name: str
    state: State
    revision: int | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it can be worked with."""
        return self.state is State.OK

    def describe(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "state": str(self.state),
            "revision": self.revision,
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """For people: what is, what it means, what helps."""
        path = f"{FOLDER}/{self.name}"
        if self.ok:
            return f"{path} can be read" + ("." if self.revision is None else f", revision {self.revision}.")
        return WORDS[self.state].format(path=path, detail=self.detail)


HEALS = "Once it is mounted again, this session sees it without a restart."
WORDS = {
    State.NOT_MOUNTED: f"{{path}} is not there: CVMFS is not mounted on the node of this session. {HEALS}",
    State.HUNG: "{path} does not answer ({detail}), and neither does any program that looks into it: leave it alone for now. "
    "CVMFS on the node hangs, or cannot reach its servers.",
    State.EMPTY: f"{{path}} is an empty folder: CVMFS has been unmounted on the node, or was not mounted yet. {HEALS}",
    State.WRONG: "At {path} there is another repository, {detail}: nothing there is what its path says.",
    State.LOOP: "{path} cannot be followed (too many levels of symbolic links): CVMFS is mounted on the node, but its mounts do not reach "
    "this session (mountPropagation: HostToContainer is missing).",
    State.BROKEN: f"{{path}} cannot be read ({{detail}}): CVMFS on the node has ended or is damaged. {HEALS}",
    State.NOT_CVMFS: "{path} is not CVMFS ({detail}): some other folder stands there.",
}
"""Sentences of the states in which something is wrong."""

ERRORS = {
    errno.ENOENT: State.NOT_MOUNTED,
    errno.ELOOP: State.LOOP,
    errno.ENOTDIR: State.NOT_CVMFS,
}


def read_look(name: str, found: bytes) -> Repository:
    """What the child that looked wrote: ``{"errno"}``, or ``{"entries", "fqrn", "revision", "cvmfs"}``.

    A site may keep the attributes to itself (``CVMFS_XATTR_PROTECTED_XATTRS``): then ``fqrn`` is empty, and ``cvmfs`` says whether the
    kernel's table of mounts has CVMFS there.
    """
    try:
        look = json.loads(found)
    except ValueError:
        return Repository(name, State.BROKEN, detail="looking at it ended without an answer")
    if number := look.get("errno"):
        state = ERRORS.get(number, State.BROKEN)
        return Repository(name, state, detail=f"{errno.errorcode.get(number, number)}: {look.get('strerror', '')}")
    if look["fqrn"] not in ("", name):
        return Repository(name, State.WRONG, detail=look["fqrn"])
    if look["fqrn"] or look["cvmfs"]:
        return Repository(name, State.OK, revision=look["revision"])
    if not look["entries"]:
        return Repository(name, State.EMPTY)
    return Repository(name, State.NOT_CVMFS, detail="it has no attribute user.fqrn")


def in_words(repositories: Sequence[Repository]) -> str:
    """One line for a log: ``cms.cern.ch ok (revision 5), sft.cern.ch hung``."""
    return ", ".join(
        f"{one.name} {one.state}" + (f" (revision {one.revision})" if one.revision is not None else "")
        for one in repositories
    )
