"""CVMFS in a session: what is mounted, and what is said of repositories."""

import errno
import json
import subprocess
import sys

import pytest

from af_hub.policy.sessions import CVMFS
from af_hub.session.cvmfs import (
    WORDS,
    Repository,
    State,
    cvmfs_fragment,
    in_words,
    read_look,
    read_repositories,
)
from af_hub.session.cvmfs_look import Looker

CMS = "cms.cern.ch"


def test_a_claim_is_mounted_read_only_and_follows_the_node():
    fragment = cvmfs_fragment(CVMFS(claim="cvmfs", repositories=[CMS, "sft.cern.ch"]))
    assert fragment.volumes == {"cvmfs": {"persistentVolumeClaim": {"claimName": "cvmfs"}}}
    assert fragment.mounts == {
        "cvmfs": {"mountPath": "/cvmfs", "mountPropagation": "HostToContainer", "readOnly": True}
    }
    assert fragment.agent_mounts == fragment.mounts  # the agent looks, too
    assert fragment.environment == {"AF_CVMFS_REPOSITORIES": "cms.cern.ch,sft.cern.ch"}
    assert read_repositories(fragment.environment) == (CMS, "sft.cern.ch")


def test_a_path_of_the_node_is_made_where_it_is_missing():
    fragment = cvmfs_fragment(CVMFS(host_path="/cvmfs"))
    assert fragment.volumes == {"cvmfs": {"hostPath": {"path": "/cvmfs", "type": "DirectoryOrCreate"}}}
    assert fragment.environment == {} and read_repositories({}) == ()


def test_repositories_without_a_mount_are_looked_at_only():
    fragment = cvmfs_fragment(CVMFS(repositories=[CMS]))
    assert not fragment.volumes and not fragment.mounts and fragment.environment


def look(**found):
    return json.dumps({"entries": True, "fqrn": "", "revision": None, "cvmfs": False, **found}).encode()


@pytest.mark.parametrize(
    "found, state, says",
    [
        pytest.param(look(fqrn=CMS, revision=7), State.OK, "can be read, revision 7.", id="all said"),
        pytest.param(look(cvmfs=True), State.OK, "can be read.", id="attributes withheld"),
        pytest.param(look(fqrn=CMS, entries=False), State.OK, "can be read", id="a new repository"),
        pytest.param(look(fqrn="sft.cern.ch"), State.WRONG, "another repository, sft.cern.ch", id="another"),
        pytest.param(look(), State.NOT_CVMFS, "is not CVMFS", id="a folder"),
        pytest.param(look(entries=False), State.EMPTY, "is an empty folder", id="an empty folder"),
        pytest.param(b'{"errno": 2, "strerror": "No such"}', State.NOT_MOUNTED, "is not there", id="ENOENT"),
        pytest.param(b'{"errno": 40, "strerror": "Too many"}', State.LOOP, "HostToContainer is missing", id="ELOOP"),
        pytest.param(b'{"errno": 107, "strerror": "Gone"}', State.BROKEN, "(ENOTCONN: Gone)", id="ENOTCONN"),
        pytest.param(b'{"errno": 103, "strerror": "x"}', State.BROKEN, "ECONNABORTED", id="killed while asked"),
        pytest.param(b'{"errno": 5, "strerror": "I/O"}', State.BROKEN, "EIO: I/O", id="EIO: its cache is full"),
        pytest.param(b'{"errno": 20, "strerror": "x"}', State.NOT_CVMFS, "ENOTDIR", id="a file"),
        pytest.param(b"", State.BROKEN, "without an answer", id="a child that was killed"),
        pytest.param(b'{"entries"', State.BROKEN, "without an answer", id="half an answer"),
    ],
)
def test_what_a_look_means(found, state, says):
    repository = read_look(CMS, found)
    assert repository.state is state and repository.ok is (state is State.OK)
    assert f"/cvmfs/{CMS}" in repository.sentence and says in repository.sentence
    assert set(repository.describe()) == {"name", "state", "revision", "sentence"}


def test_every_state_in_which_something_is_wrong_has_its_words():
    assert set(WORDS) == set(State) - {State.OK} and len(State) == 8
    assert all(errno.errorcode[107] not in Repository(CMS, state, detail="D").sentence for state in State)


def test_a_line_for_the_log():
    found = [Repository(CMS, State.OK, 5), Repository("sft.cern.ch", State.HUNG)]
    assert in_words(found) == "cms.cern.ch ok (revision 5), sft.cern.ch hung"


def test_plain_folders(tmp_path):
    (tmp_path / "empty.cern.ch").mkdir()
    (tmp_path / "plain.cern.ch").mkdir()
    (tmp_path / "plain.cern.ch" / "file").touch()
    (tmp_path / "loop.cern.ch").symlink_to("loop.cern.ch")
    (tmp_path / "file.cern.ch").touch()
    names = [f"{kind}.cern.ch" for kind in ("empty", "plain", "loop", "file", "no")]
    found = Looker(names, str(tmp_path)).look_now(30)
    assert [one.name for one in found] == names
    assert [str(one.state) for one in found] == ["empty", "not CVMFS", "symlink loop", "not CVMFS", "not mounted"]


async def test_an_agent_looks_without_standing_still(tmp_path):
    (found,) = await Looker([CMS], str(tmp_path)).look(30)
    assert found.state is State.NOT_MOUNTED


def test_no_repositories_no_looks():
    assert Looker([]).look_now() == ()


def test_the_session_agent_needs_no_pydantic_for_it():
    code = "import sys; sys.modules['pydantic'] = None; import af_hub.session.cvmfs_look"
    subprocess.run([sys.executable, "-c", code], check=True)
