"""Spawners of pods for tests that need no cluster: a person, a policy, and a hub of words."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient
from kubespawner.clients import _client_cache, load_config

from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, decide
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.registry.prover import Prover
from af_hub.spawner import AFSpawner

POLICY = """
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/cms], login: true, images: [base], sizes: [small],
     own_images: ['registry\\.af-hub\\.test/cms/.*']}
  - {name: CMS, groups: [/cms/itcms], images: [analysis], sizes: [gpu], sites: [T2_A], volumes: [shared, scratch],
     condor: {account: "u-{username}", accounting_group: cms}}
images:
  base: {title: Python, container: "af-hub.test/python-base:1"}
  analysis: {title: Python analysis, container: "af-hub.test/python-analysis:1"}
  nowhere: {title: Without a container, environment: /images/nowhere}
sizes:
  small: {title: Small, cpus: 1, memory: 2 GiB}
  gpu:
    title: One GPU
    cpus: 4
    memory: 8 GiB
    resources: {"nvidia.com/gpu": 1}
    node_selector: {af-hub.org/site: T2_A}
    tolerations: [{key: virtual-node.interlink/no-schedule, operator: Exists}]
volumes:
  shared: {title: Shared, path: /shared/cms, claim: cms, read_only: true}
  scratch: {title: Scratch, path: /scratch, scratch: 20 GiB}
cvmfs: {claim: cvmfs, repositories: [cms.cern.ch]}
sites: {T2_A: {title: A, pool: p}}
pools: {p: {collector: "cm:9618", schedd: s, audience: a, ca_file: "${CA}"}}
caches: {near: {url: "root://near:1094", ca_file: "${CA}"}}
registries: {af-hub.test: {address: ""}, registry.af-hub.test: {address: ""}}
"""


class KnownPerson:
    """An authenticator for one person."""

    def __init__(self, policy: Policy, username: str, groups: tuple[str, ...]) -> None:
        self.policy, self.username, self.groups = policy, username, groups
        self.prover = Prover(lambda: self.policy)

    async def rights_of(self, user: object) -> tuple[Rights, Policy]:
        claims = Claims("https://iam.af-hub.test/", "1", self.username, self.groups)
        return decide(self.policy, claims, time.time()), self.policy


KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "%s"}}]
users: [{name: u, user: {token: nobody}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def use_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str = "http://127.0.0.1:1") -> None:
    """Let KubeSpawner's client speak to the API at ``url``; where nobody is when left out."""
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG % url)
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    load_config.cache_clear()
    _client_cache.clear()


def policy_with(ca_file: str = "/ca.pem") -> Policy:
    return read_policy(POLICY, "facility.yaml", {"CA": ca_file})


def spawner_of(
    *groups: str, username: str = "ada", server: str = "", policy: Policy | None = None, **traits: Any
) -> AFSpawner:
    """A spawner of ``username``; it needs a running event loop, as KubeSpawner does."""
    hub = SimpleNamespace(
        public_host="", url="http://hub.test/hub/", base_url="/hub/", api_url="http://hub.test:8081/hub/api"
    )
    user = SimpleNamespace(name=username, id=7, url=f"/user/{username}/", escaped_name=username)
    ours = {"agent_image": "af-hub.test/agent:1", "namespace": "af-sessions", "controller_url": "http://c/"}
    orm_spawner = SimpleNamespace(name=server, server=None)
    spawner = AFSpawner(user=user, hub=hub, orm_spawner=orm_spawner, _mock=True, **(ours | traits))
    spawner.authenticator = KnownPerson(policy or policy_with(), username, groups)
    return spawner


async def manifest_of(spawner: AFSpawner, choice: dict[str, str] | None = None) -> dict[str, Any]:
    """The pod that would be made, as plain objects; the random end of the Secret's name is always the same."""
    spawner.user_options = choice or {}
    spawner._roles_seen.add(spawner.namespace)
    await spawner.load_user_options()
    async with ApiClient() as client:
        found: dict[str, Any] = client.sanitize_for_serialization(await spawner.get_pod_manifest())
    return found
