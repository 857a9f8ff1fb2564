"""Homes, shared folders and scratch of people in different groups, as the policy gives them, on a real cluster."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from af_hub.policy.load import read_policy
from af_hub.session.volumes import volumes_fragment
from af_hub.testing.process import comes_true
from tests.kube.sessions_without_hub import PlainSession, folder_volume, plain_session

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(300)]

UID, GID = 1000, 100
POLICY = """
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/all], login: true, images: [base], sizes: [small], volumes: [software, scratch, fast]}
  - {name: CMS, groups: [/cms], volumes: [cms]}
images: {base: {title: Base}}
sizes: {small: {title: Small, cpus: 1, memory: 1 GiB}}
volumes:
  software: {title: Software, path: /shared/software, claim: software, read_only: true}
  cms: {title: CMS, path: /shared/cms, claim: cms}
  scratch: {title: Scratch, path: /scratch, scratch: 8 MiB}
  fast: {title: Fast scratch, path: /fast, scratch: 1 MiB, storage_class: af-fast}
"""
POLICY = read_policy(POLICY, "facility.yaml", {})
# Each thing is tried; the answer is True, or the system's error.
TRY = """
import json, os, pathlib, sys

def tried(path, text):
    try:
        if text:
            pathlib.Path(path).write_text(text)
        return pathlib.Path(path).read_text()
    except OSError as error:
        return os.strerror(error.errno)

print(json.dumps([tried(*one) for one in json.loads(sys.argv[1])]))
"""


@dataclass
class Storage:
    """A namespace with the administrator's claims, and people who have sessions in it."""

    kube: Any
    namespace: str
    folder: Path
    stack: ExitStack

    def claim(self, name, mode=0o2770):
        """A folder of the nodes that its members may write, behind a claim; the kubelet gives such a folder to nobody."""
        path = self.folder / name
        path.mkdir()
        os.chown(path, UID, GID)
        path.chmod(mode)
        volume, claim = folder_volume(self.namespace, name, path, ("ReadWriteMany",))
        self.kube.apply(volume, claim)
        self.stack.callback(
            self.kube.kubectl, "delete", "pv", volume["metadata"]["name"], "--wait=false", "--ignore-not-found"
        )

    def session(self, username, *groups) -> PlainSession:
        """Somebody's session, with what the policy gives these groups, and their own home."""
        rights = decide(POLICY, Claims("https://iam.af-hub.test/", username, username, groups), time.time())
        fragment = volumes_fragment(POLICY.volumes, rights.volumes)
        self.claim(f"home-{username}")
        home = {"persistentVolumeClaim": {"claimName": f"home-{username}"}}
        return self.stack.enter_context(plain_session(self.kube, self.namespace, username, fragment, home))


@pytest.fixture
def storage(kube, tmp_path) -> Iterator[Storage]:
    with kube.namespace("volumes", "restricted") as name, ExitStack() as stack:
        storage = Storage(kube, name, tmp_path, stack)
        kube.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "af-fast"},
                "provisioner": "kubernetes.io/no-provisioner",
            }
        )
        stack.callback(kube.kubectl, "delete", "storageclass", "af-fast", "--ignore-not-found")
        yield storage


def fast_volume(storage, name):
    """What a provisioner would make for a session's scratch: a small file system of its own."""
    path = storage.folder / name
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1m,uid={UID},gid={GID}", "tmpfs", path], check=True)
    storage.stack.callback(subprocess.run, ["umount", "--lazy", path])
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{storage.namespace}-{name}"},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "af-fast",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(path)},
        },
    }
    storage.kube.apply(volume)
    storage.stack.callback(storage.kube.kubectl, "delete", "pv", volume["metadata"]["name"], "--wait=false")


def tried(session, *things):
    return session.run(TRY, json.dumps(things))


def test_people_have_what_their_groups_give_and_their_own_home(storage):
    for name in ("software", "cms"):
        storage.claim(name)
    (storage.folder / "software" / "setup.sh").write_text("good")
    for name in ("fast-1", "fast-2", "fast-3"):
        fast_volume(storage, name)
    ada, bob, eve = (
        storage.session("ada", "/all", "/cms"),
        storage.session("bob", "/all", "/cms"),
        storage.session("eve", "/all"),
    )
    readonly, missing, full = "Read-only file system", "No such file or directory", "No space left on device"

    assert tried(ada, ["/home/ada/mine", "a"], ["/shared/cms/ours", "c"], ["/scratch/mine", "s"]) == ["a", "c", "s"]
    assert tried(
        bob, ["/shared/cms/ours", ""], ["/home/bob/mine", ""], ["/scratch/mine", ""], ["/home/ada/mine", ""]
    ) == [
        "c",
        missing,
        missing,
        missing,
    ]
    assert tried(eve, ["/shared/cms/ours", ""], ["/shared/software/setup.sh", ""]) == [missing, "good"]
    assert tried(ada, ["/shared/software/setup.sh", "bad"], ["/shared/software/setup.sh", ""]) == [readonly, "good"]
    assert tried(ada, ["/fast/fits", "x" * 1000], ["/fast/large", "x" * 100_000]) == ["x" * 1000, "x" * 100_000]
    size = "import json, os; print(json.dumps(os.environ['AF_SCRATCH']))"
    assert ada.run(size) == "/scratch"
    filled = "import json\ntry:\n open('/fast/all', 'wb').write(bytes(2**21))\nexcept OSError as e:\n print(json.dumps(e.strerror))"
    assert ada.run(filled) == full

    claim = f"{ada.name}-volume-fast"
    assert ada.get("pvc", claim)["spec"]["resources"]["requests"]["storage"] == "1Mi"
    storage.kube.kubectl("delete", "pod", "ada", "-n", storage.namespace)
    gone = lambda: claim not in storage.kube.kubectl("get", "pvc", "-n", storage.namespace, "-o", "name")  # noqa: E731
    assert comes_true(gone, 60)
    assert (storage.folder / "home-ada" / "mine").read_text() == "a"


@pytest.mark.long
def test_more_scratch_of_the_node_than_given_ends_the_session(storage):
    """The node's kubelet looks at folders on its own disk once a minute, and ends the pod, with a reason."""
    storage.claim("software")
    fast_volume(storage, "fast-1")
    session = storage.session("ada", "/all")
    session.run("import json; open('/scratch/much', 'wb').write(bytes(2**24)); print(json.dumps(1))")
    assert comes_true(lambda: session.get()["status"].get("reason") == "Evicted", 180, pause=1)
    assert 'exceeds the limit "8Mi"' in session.get()["status"]["message"]
