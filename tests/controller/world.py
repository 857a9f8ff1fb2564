import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from jupyterhub.services.auth import HubOAuth

from af_hub.controller.batch import BatchTokens
from af_hub.controller.hands import Hands
from af_hub.controller.hub import Hub
from af_hub.controller.jobagent import JobAgents
from af_hub.controller.keys import UserCA
from af_hub.controller.login import Login
from af_hub.controller.parts import Parts
from af_hub.controller.reconcile import Reconciler
from af_hub.controller.store import open_store
from af_hub.controller.web import create_app
from af_hub.forwarder.login import ForwarderAddress
from af_hub.policy.load import PolicyFile
from af_hub.testing.fake_hub import SERVICE_TOKEN, FakeHub
from af_hub.testing.fake_site import FakeSite

FACILITY = """
version: 1
facility: {name: Testing ground, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - name: analysts
    groups: [/cms/itcms]
    login: true
    images: [python-analysis]
    sizes: [small]
    sites: [T2_A]
    condor: {account: "cms-{username}", accounting_group: cms.itcms}
    limits: {clusters: 3, cores: 8, memory: 16GiB, lifetime: 1h}
  - {name: guests, groups: [/guests], login: true}
images:
  python-analysis: {title: Analysis, environment: /images/python-analysis}
  python-base: {title: Base, environment: /images/python-base}
sizes: {small: {title: Small, cpus: 1, memory: 2GiB}}
pools: {main: {collector: "c:9618", schedd: s, audience: a, ca_file: /ca.pem, job_tokens: true}}
sites:
  T2_A: {title: "Tier-2 A", pool: main, cache: a}
  T2_B: {title: "Tier-2 B", pool: main}
caches: {a: {url: "root://cache.test:1094"}}
"""
ORIGIN = "http://hub.test"
PREFIX = "/services/af-controller/"
FORWARDER = ForwarderAddress("127.0.0.1", 2222, "ssh-ed25519 AAAA")


class Clock:
    def __init__(self):
        self.offset = 0.0

    def __call__(self):
        return time.time() + self.offset


@dataclass
class World:
    """A controller and what it talks to; ``restart`` is a new process on the same state."""

    hub: FakeHub
    site: FakeSite
    folder: Path
    clock: Clock
    parts: Parts | None = None
    app: object = None
    owner: str = ""
    clients: list = field(default_factory=list)
    origin: str = ""
    """Where a real browser finds the controller, when there is one."""

    def start(self):
        state = self.folder / "state"
        user_ca = UserCA(state)
        policy = PolicyFile(self.folder / "facility.yaml")
        store = open_store(f"sqlite:///{state}/controller.sqlite")
        http = httpx.AsyncClient(trust_env=False)
        hub = Hub(f"{self.hub.url}/hub/api", SERVICE_TOKEN, http)
        agents = JobAgents(self.site, state)
        loop = Reconciler(Hands(store, self.site, hub, agents, user_ca, state, policy, FORWARDER, self.clock))
        oauth = HubOAuth(
            api_url=f"{self.hub.url}/hub/api",
            api_token=SERVICE_TOKEN,
            base_url=PREFIX,
            hub_host=self.hub.url,
            hub_prefix="/hub/",
            oauth_client_id="service-af-controller",
            oauth_redirect_uri=f"{self.origin}{PREFIX}oauth_callback",
        )
        self.parts = Parts(
            store=store,
            pool=self.site,
            hub=hub,
            login=Login(hub, oauth, PREFIX, secure=False),
            agents=agents,
            reconciler=loop,
            batch=BatchTokens(hub, self.site, policy, self.clock),
            user_ca=user_ca,
            state=state,
            policy=policy,
            forwarder=FORWARDER,
            public_url=f"{self.origin or ORIGIN}{PREFIX}",
            clock=self.clock,
        )
        self.app = create_app(self.parts)
        self.clients.append((http, self.parts))
        return self

    async def stop(self):
        for http, parts in self.clients:
            await parts.reconciler.close()
            await parts.agents.close()
            await http.aclose()
            parts.store.close()
        self.clients.clear()

    async def restart(self):
        await self.stop()
        return self.start()

    async def turn(self):
        """One round of the loop, with all that it begins."""
        await self.parts.reconciler.round()
        await self.parts.reconciler.settle()

    async def until(self, cluster, state, rounds=12):
        for _ in range(rounds):
            if self.get(cluster).state == state:
                return
            await self.turn()
            await self.site.advance()
        assert self.get(cluster).state == state, self.get(cluster).reason

    def get(self, cluster):
        return self.parts.store.get(cluster)

    def api(self, token=None, **headers):
        if token:
            headers["Authorization"] = f"token {token}"
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url=f"{ORIGIN}{PREFIX}", headers=headers)

    async def create(self, **more):
        asked = {"site": "T2_A", "image": "python-analysis", "workers": 1, "cores": 1, "memory": 2**31} | more
        async with self.api(self.owner) as api:
            answer = await api.post("api/clusters", json=asked)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]
