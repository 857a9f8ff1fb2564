"""Which of the policy's volumes and repositories come into a session, whichever spawner starts it."""

import time
from types import SimpleNamespace

import pytest
from jupyterhub.spawner import SpawnException

from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from af_hub.policy.load import read_policy
from af_hub.session.options import check_choice
from af_hub.spawner import LocalAFSpawner

POLICY = read_policy(
    """
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/all], login: true, images: [base], sizes: [small], volumes: [scratch]}
  - {name: CMS, groups: [/cms], volumes: [cms]}
  - {name: ICSC, groups: [/icsc], volumes: [icsc]}
images: {base: {title: Base, environment: /images/base}}
sizes: {small: {title: Small, cpus: 1, memory: 1 GiB}}
volumes:
  scratch: {title: Scratch, path: /scratch, scratch: 1 GiB}
  cms: {title: CMS, path: /shared, claim: cms}
  icsc: {title: ICSC, path: /shared, claim: icsc}
cvmfs: {claim: cvmfs, repositories: [cms.cern.ch]}
""",
    "facility.yaml",
    {},
)


class WithVolumes(LocalAFSpawner):
    """As a spawner of pods is, in this."""

    has_volumes = True


def session_of(kind, *groups):
    spawner = kind()
    spawner.user = SimpleNamespace(name="ada")
    rights = decide(POLICY, Claims("https://iam.af-hub.test/", "1", "ada", groups), time.time())
    spawner.controller_url = "http://127.0.0.1:1/"
    return spawner.describe(check_choice({}, rights, POLICY), rights, POLICY, "/run/af")


def test_pods_have_what_the_rules_give():
    fragment = session_of(WithVolumes, "/all", "/cms")
    assert list(fragment.volumes) == ["cvmfs", "volume-scratch", "volume-cms"]
    assert fragment.mounts["volume-cms"] == {"mountPath": "/shared"}
    assert fragment.environment["AF_SCRATCH"] == "/scratch"
    assert fragment.environment["AF_CVMFS_REPOSITORIES"] == "cms.cern.ch"
    assert list(session_of(WithVolumes, "/all").volumes) == ["cvmfs", "volume-scratch"]
    assert list(fragment.agent_mounts) == ["cvmfs"]


def test_plain_processes_have_the_machines_cvmfs_and_no_volumes():
    fragment = session_of(LocalAFSpawner, "/all", "/cms", "/icsc")
    assert fragment.environment["AF_CVMFS_REPOSITORIES"] == "cms.cern.ch"
    assert "AF_SCRATCH" not in fragment.environment and not any(name.startswith("volume-") for name in fragment.volumes)


def test_two_volumes_at_one_path_are_refused_with_their_rules():
    with pytest.raises(SpawnException) as refusal:
        session_of(WithVolumes, "/all", "/cms", "/icsc")
    assert (refusal.value.reason, refusal.value.status_code) == ("facility", 500)
    assert "Two volumes want to be at /shared: `cms` (rule: CMS) and `icsc` (rule: ICSC)." in refusal.value.message
