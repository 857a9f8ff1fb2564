"""CVMFS on the node, whatever becomes of it, seen from sessions that began before, during and after.

The file system is a real FUSE mount with CVMFS's attributes (:mod:`af_hub.testing.cvmfs`); pods are made by the spawner's pure parts.
"""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from af_hub.policy.sessions import CVMFS
from af_hub.session.cvmfs import cvmfs_fragment
from af_hub.testing.cvmfs import Repository, why_not
from af_hub.testing.kube_cluster import CommandFailed
from af_hub.testing.process import comes_true
from af_hub.testing.require import unavailable
from tests.kube.sessions_without_hub import PlainSession, folder_volume, plain_session

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(300)]

CMS = "cms.cern.ch"
BY_CLAIM = CVMFS(claim="cvmfs", repositories=[CMS])
# What `af check` says in the user's container, and what the agent says of its own.
SEE = """
import json, os, socket
from af_hub.session.cvmfs import read_repositories
from af_hub.session.cvmfs_look import Looker

looker = Looker(read_repositories(os.environ))
mine = [one.describe() for one in looker.look_now(3)]
looker.close()
agent = socket.socket(socket.AF_UNIX)
agent.connect("/run/af/agent.sock")
agent.sendall(b"GET /cvmfs HTTP/1.0\\r\\n\\r\\n")
answer = agent.makefile("rb").read()
print(json.dumps([*mine, *json.loads(answer.partition(b"\\r\\n\\r\\n")[2])]))
"""


def states(session: PlainSession) -> set[tuple[str, int | None]]:
    """What user's container and agent say of the repository; one entry when they agree."""
    return {(one["state"], one["revision"]) for one in session.run(SEE)}


@pytest.fixture
def cvmfs(tmp_path) -> Iterator[Path]:
    """The nodes' folder of repositories; its mounts reach pods, as an administrator would have it."""
    if reason := why_not():
        unavailable(reason)
    folder = tmp_path / "cvmfs"
    folder.mkdir()
    run("mount", "--bind", folder, folder)
    run("mount", "--make-shared", folder)
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)


def run(*argv):
    subprocess.run(list(map(str, argv)), check=True, capture_output=True, timeout=30)


@pytest.fixture
def repository(cvmfs, tmp_path) -> Iterator[Repository]:
    repository = Repository(cvmfs, CMS, tmp_path)
    yield repository
    repository.unmount()


@pytest.fixture
def namespace(kube, cvmfs) -> Iterator[str]:
    with kube.namespace("cvmfs", "restricted") as name:
        volume, claim = folder_volume(name, "cvmfs", cvmfs, ("ReadOnlyMany",))
        kube.apply(volume, claim)
        yield name
    kube.kubectl("delete", "pv", volume["metadata"]["name"], "--wait=false")


def test_sessions_start_in_each_state_say_which_and_see_the_remount(kube, namespace, repository):
    with ExitStack() as stack:
        sessions: list[PlainSession] = []

        def start(name):
            sessions.append(stack.enter_context(plain_session(kube, namespace, name, cvmfs_fragment(BY_CLAIM))))

        def all_say(*expected):
            with ThreadPoolExecutor() as threads:
                assert list(threads.map(states, sessions)) == [set(expected)] * len(sessions)

        start("before")
        all_say(("not mounted", None))
        repository.mount(1)
        all_say(("ok", 1))  # mounted after the start
        start("mounted")
        assert sessions[-1].run("print(open('/cvmfs/cms.cern.ch/revision').read())") == 1

        repository.hang()
        start("hung")
        all_say(("hung", None))
        repository.answer()
        assert comes_true(lambda: states(sessions[-1]) == {("ok", 1)}, 30)

        repository.kill()
        start("killed")
        all_say(("transport broken", None))
        repository.unmount()
        all_say(("empty", None))

        repository.mount(2)
        all_say(("ok", 2))
        assert [session.restarts for session in sessions] == [0] * 4


def test_nobody_writes_to_cvmfs(kube, namespace, repository):
    repository.mount()
    with plain_session(kube, namespace, "writer", cvmfs_fragment(BY_CLAIM)) as session:
        found = session.run("""
import json, os
found = []
for path in ("/cvmfs/new", "/cvmfs/cms.cern.ch/new"):
    try:
        os.mkdir(path)
    except OSError as error:
        found.append(os.strerror(error.errno))
print(json.dumps(found))
""")
        assert found == ["Read-only file system"] * 2


def test_a_path_of_the_node_is_for_namespaces_that_allow_it(kube, namespace, cvmfs, repository):
    repository.mount(3)
    by_path = cvmfs_fragment(CVMFS(host_path=str(cvmfs), repositories=[CMS]))
    with pytest.raises(CommandFailed, match="restricted volume types"):
        with plain_session(kube, namespace, "refused", by_path):
            pass
    with kube.namespace("cvmfs-open") as open_one:
        with plain_session(kube, open_one, "allowed", by_path) as session:
            assert states(session) == {("ok", 3)}


def test_a_session_whose_repository_hangs_ends_when_it_is_told_to_or_when_the_mount_is_gone(
    kube, namespace, repository
):
    """The kernel keeps a process that waits for a file system, in any container; the administrator's remedy frees it."""
    repository.mount()
    with plain_session(kube, namespace, "held", cvmfs_fragment(BY_CLAIM)) as session:
        repository.hang()
        assert states(session) == {("hung", None)}
        kube.kubectl("delete", "pod", session.name, "-n", namespace, "--wait=false")
        repository.kill()
        kube.kubectl("wait", "--for=delete", f"pod/{session.name}", "-n", namespace, "--timeout=60s")
