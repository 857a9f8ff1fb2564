"""Looks at real FUSE mounts that have CVMFS's attributes, and its ways to fail."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.testing import cvmfs
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable

WATCHER = Path(__file__).with_name("cvmfs_watcher.py")
CMS, SFT = "cms.cern.ch", "sft.cern.ch"


class Place:
    """Where repositories are mounted, and one process there that looks at them, as a session agent does."""

    def __init__(self, space: cvmfs.MountSpace, folder: Path, room: Path) -> None:
        self._space, self.folder, self._room = space, folder, room
        self._watchers: list[subprocess.Popen] = []
        self._repositories: list[cvmfs.Repository] = []

    def repository(self, name, **more):
        self._repositories.append(cvmfs.Repository(self.folder, name, self._room, within=self._space.within, **more))
        return self._repositories[-1]

    def watcher(self, *names):
        argv = [*self._space.within, sys.executable, str(WATCHER), str(self.folder), *names]
        watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._watchers.append(watcher)

        def look(seconds=10.0):
            print(seconds, file=watcher.stdin, flush=True)
            answer = json.loads(watcher.stdout.readline())
            look.children = answer["children"]
            states = {name: tuple(found) for name, found in answer["found"].items()}
            return states if len(names) > 1 else states[names[0]]

        return look

    def end(self):
        for repository in self._repositories:
            repository.unmount()
        for watcher in self._watchers:
            watcher.communicate(timeout=10)


@pytest.fixture(scope="module")
def space() -> Iterator[cvmfs.MountSpace]:
    if reason := cvmfs.why_not():
        unavailable(reason)
    with cvmfs.MountSpace() as space:
        if not space.works:
            unavailable("this user can have no mount namespace (unshare --user --mount)")
        yield space


@pytest.fixture
def place(space, tmp_path) -> Iterator[Place]:
    (tmp_path / "cvmfs").mkdir()
    place = Place(space, tmp_path / "cvmfs", tmp_path)
    try:
        yield place
    finally:
        place.end()


def mount(repository, revision=1):
    try:
        repository.mount(revision)
    except Unavailable as error:
        unavailable(f"FUSE cannot be mounted here: {error}")


@pytest.mark.slow
def test_a_repository_that_is_mounted_killed_and_mounted_again_under_one_watcher(place):
    cms = place.repository(CMS)
    look = place.watcher(CMS)
    assert look()[0] == "not mounted"
    mount(cms, 5)
    state, revision, sentence = look()
    assert (state, revision) == ("ok", 5) and sentence == f"/cvmfs/{CMS} can be read, revision 5."
    cms.kill()
    state, _, sentence = look()
    assert state == "transport broken" and "ENOTCONN" in sentence
    cms.unmount()
    assert look()[0] == "empty"
    mount(cms, 6)
    assert look()[:2] == ("ok", 6)
    assert look.children == 0


@pytest.mark.slow
def test_what_hangs_holds_up_nobody_and_one_child_at_most(place):
    cms, sft = place.repository(CMS), place.repository(SFT)
    mount(cms, 1), mount(sft, 2)
    look = place.watcher(CMS, SFT)
    cms.hang()
    began = time.monotonic()
    found = look(0.5)
    assert time.monotonic() - began < 5
    assert found[CMS][0] == "hung" and "does not answer" in found[CMS][2] and found[SFT][:2] == ("ok", 2)
    assert look(0.5)[CMS][0] == "hung" and look(0.5)[CMS][0] == "hung"
    assert look.children == 1
    cms.answer()
    assert comes_true(lambda: look()[CMS][:2] == ("ok", 1), 10) and look.children == 0


def test_a_hanging_mount_that_is_replaced_is_seen_though_the_old_look_still_waits(place):
    cms = place.repository(CMS)
    mount(cms, 1)
    look = place.watcher(CMS)
    cms.hang()
    assert look(0.3)[0] == "hung"
    again = place.repository(CMS)
    mount(again, 2)  # takes the hanging mount out of sight
    assert look()[:2] == ("ok", 2)


@pytest.mark.parametrize(
    "prepare, state, says",
    [
        pytest.param(
            lambda place: mount(place.repository(CMS, says="cms-dev.cern.ch")),
            "wrong repository",
            "another repository, cms-dev.cern.ch",
            id="another repository's mount",
        ),
        pytest.param(
            lambda place: mount(place.repository(CMS, attributes=False)),
            "ok",
            f"/cvmfs/{CMS} can be read.",
            id="attributes that the site keeps to itself",
        ),
    ],
)
def test_what_a_mount_is(place, prepare, state, says):
    prepare(place)
    found = place.watcher(CMS)()
    assert found[0] == state and says in found[2]
