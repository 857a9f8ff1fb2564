"""What ``explain`` says of people is what hub, controller and pool then allow: the real parts, one generated facility, many people.

The hub's authenticator and spawner and the controller's application run here; the access point's mapping program runs as the command that
HTCondor runs.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from cryptography.fernet import Fernet
from generated import IMAGES, NO_NAMES, SITES, at_utc, make_names, make_people, make_policy
from jupyterhub.services.auth import HubOAuth
from jupyterhub.spawner import SpawnException

from af_hub.authenticator import ADMINS, IAMAuthenticator
from af_hub.condor import mapper
from af_hub.condor.mapping import Person, compile_mapping
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
from af_hub.errors import ClaimsError, Refused
from af_hub.forwarder.login import ForwarderAddress
from af_hub.iam.claims import Claims, read_claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.decide import decide
from af_hub.policy.explain import explain
from af_hub.policy.load import PolicyFile
from af_hub.policy.units import read_bytes
from af_hub.spawner import LocalAFSpawner
from af_hub.testing.fake_hub import SERVICE_TOKEN, FakeHub
from af_hub.testing.fake_site import FakeSite
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Store

PREFIX = "/services/af-controller/"
GIB = 2**30
NOTHING = {"images": frozenset[str](), "sizes": frozenset[str]()}


@dataclass(frozen=True)
class Said:
    """What ``explain`` tells an administrator, read back out of its words."""

    login: bool
    admin: bool = False
    images: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    account: str = ""
    group: str = ""
    clusters: int = 0
    cores: int = 0
    memory: int = 0


def read_explanation(text: str) -> Said:
    """Of its lines only what stands before the rules in brackets."""
    if re.search(r"^may not log in: ", text, re.MULTILINE):
        return Said(login=False)

    def names(kind: str) -> frozenset[str]:
        return frozenset(re.findall(rf"^{kind}: (\S+) \(", text, re.MULTILINE))

    def one(pattern: str) -> str:
        found = re.search(rf"^{pattern}", text, re.MULTILINE)
        return found[1] if found else ""

    return Said(
        login=bool(re.search(r"^may log in  \[", text, re.MULTILINE)),
        admin=bool(re.search(r"^is an admin  \[", text, re.MULTILINE)),
        images=names("image"),
        sizes=names("size"),
        sites=names("site"),
        account=one(r"HTCondor account: (\S+)  \["),
        group=one(r"accounting group: (\S+)  \["),
        clusters=int(one(r"limits: (\d+) cluster") or 0),
        cores=int(one(r"limits: .* (\d+) cores?,") or 0),
        memory=read_bytes(one(r"limits: .*, (\S+ \S+) memory,") or "0 GiB"),
    )


@dataclass
class Facility:
    """One policy file and everything that reads it."""

    folder: Path
    policy: PolicyFile
    keeper: TokenKeeper
    authenticator: IAMAuthenticator
    hub: FakeHub
    app: Any
    parts: Parts
    people: list[Person] = field(default_factory=list)

    async def enrol(self, said: dict[str, Any]) -> Claims | None:
        """Somebody logs in; None when the IAM's words are refused at the door, or who it is from."""
        try:
            claims = read_claims(said, said["iss"])
        except ClaimsError:
            return None
        await self.keeper.enrol(claims, "a refresh token")
        self.hub.known[claims.username] = {
            "issuer": claims.issuer,
            "subject": claims.subject,
            "username": claims.username,
            "groups": list(claims.groups),
        }
        self.people.append(Person(claims.issuer, claims.subject, claims.username))
        return claims

    def explained(self, claims: Claims | None) -> Said:
        if claims is None:
            return Said(login=False)
        now, policy = time.time(), self.policy.current()
        return read_explanation(explain(policy, claims, decide(policy, claims, now), "a test", now))

    async def hub_allows(self, username: str) -> dict[str, Any]:
        """Login and role as at a refresh, images and sizes as the spawn page offers them, which the last check agrees with."""
        user = SimpleNamespace(name=username)
        model = await self.authenticator.refresh_user(user, SimpleNamespace())
        spawner = LocalAFSpawner(controller_url="http://c/")
        spawner.authenticator, spawner.user = self.authenticator, user
        page = await spawner.get_options_form() if model else ""
        images, sizes = (frozenset(re.findall(rf'name="{kind}"\s+value="([^"]+)"', page)) for kind in ("image", "size"))
        for image in IMAGES:
            taken = await self._starts(spawner, {"image": image, "size": min(sizes)} if sizes else {"image": image})
            assert taken is (image in images and bool(sizes)), (username, image)
        return {
            "login": bool(model),
            "admin": bool(model) and ADMINS in model["groups"],
            "images": images,
            "sizes": sizes,
            "account": await self._condor(username),
        }

    async def _starts(self, spawner: LocalAFSpawner, choice: dict[str, str]) -> bool:
        try:
            await spawner._checked(choice)
        except SpawnException:
            return False
        return True

    async def _condor(self, username: str) -> str:
        rights, _ = await self.authenticator.rights_of(SimpleNamespace(name=username))
        return rights.condor.account if rights.condor else ""

    def _api(self, username: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"token {self.hub.token_of(username)}"}
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url=f"http://hub.test{PREFIX}", headers=headers)

    async def controller_allows(self, username: str, said: Said) -> dict[str, Any]:
        """Sites as listed; clusters as many and as large as it takes them, tried at the limit and one beyond."""
        async with self._api(username) as api:

            async def create(**more: Any) -> httpx.Response:
                wish = {
                    "site": min(said.sites, default="T2_A"),
                    "image": min(said.images, default="base"),
                    "workers": 1,
                }
                size = {"cores": said.cores or 1, "memory": said.memory or GIB}
                return await api.post("api/clusters", json={**wish, **size, **more})

            listed = await api.get("api/sites")
            beyond = [
                await create(cores=(said.cores or 1) + 1),
                await create(memory=(said.memory or GIB) + 1),
                *[await create(site=site) for site in SITES if site not in said.sites],
                *[await create(image=image) for image in IMAGES if image not in said.images],
            ]
            assert {answer.status_code for answer in beyond} == {403}, [answer.text for answer in beyond]
            made = [await create()]
            while made[-1].status_code == 201:
                made.append(await create())
            assert made[-1].status_code == 403, made[-1].text
        rows = [self.parts.store.get(answer.json()["id"]) for answer in made[:-1]]
        return {
            "sites": frozenset(site["name"] for site in listed.json()) if listed.status_code == 200 else frozenset(),
            "clusters": len(rows),
            "accounts": {(row.account, row.accounting_group) for row in rows if row},
        }

    async def pool_allows(self, table: Path, accounting: dict[str, str], said: dict[str, Any]) -> tuple[str, str]:
        """Account and accounting group of whoever comes with a token that says this; run as HTCondor runs it."""
        argv = [sys.executable, "-I", "-S", mapper.__file__, str(table)]
        payload = json.dumps({key: value for key, value in said.items() if key != "preferred_username"})
        done = await asyncio.to_thread(subprocess.run, argv, input=payload.encode(), capture_output=True, timeout=30)
        assert (done.returncode == 0) is bool(done.stdout)
        account = done.stdout.decode()
        return account, accounting.get(account, "")


@pytest.fixture
async def facility(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    chance, now = random.Random(request.param), at_utc(time.time())
    names = make_names(200)
    text = yaml.safe_dump(make_policy(chance, now, names[len(NO_NAMES) : 120]))
    (tmp_path / "facility.yaml").write_text(text)
    policy = PolicyFile(tmp_path / "facility.yaml", {})
    issuers = [issuer.issuer for issuer in policy.current().issuers]
    clients = {issuer: IAMClient(Discovery(issuer, f"{issuer}none"), "hub", "s") for issuer in issuers}
    store = Store(tmp_path / "keeper.sqlite", [Fernet(Fernet.generate_key())])
    keeper = TokenKeeper(store, clients, lambda _: Purpose("openid"))
    authenticator = IAMAuthenticator(policy_source=policy, keeper=keeper, clients=clients)
    state = tmp_path / "state"
    async with FakeHub() as fake, FakeSite() as site, httpx.AsyncClient(trust_env=False) as http:
        hub, user_ca, rows = Hub(f"{fake.url}/hub/api", SERVICE_TOKEN, http), UserCA(state), None
        rows = open_store(f"sqlite:///{state}/controller.sqlite")
        agents, forwarder = JobAgents(site, state), ForwarderAddress("127.0.0.1", 2222, "ssh-ed25519 AAAA")
        loop = Reconciler(Hands(rows, site, hub, agents, user_ca, state, policy, forwarder))
        oauth = HubOAuth(
            api_url=f"{fake.url}/hub/api",
            api_token=SERVICE_TOKEN,
            base_url=PREFIX,
            hub_host=fake.url,
            hub_prefix="/hub/",
            oauth_client_id="service-af-controller",
            oauth_redirect_uri=f"{PREFIX}oauth_callback",
        )
        parts = Parts(
            store=rows,
            pool=site,
            hub=hub,
            login=Login(hub, oauth, PREFIX, secure=False),
            agents=agents,
            reconciler=loop,
            batch=BatchTokens(hub, site, policy),
            user_ca=user_ca,
            state=state,
            policy=policy,
            forwarder=forwarder,
            public_url=f"http://hub.test{PREFIX}",
        )
        yield Facility(tmp_path, policy, keeper, authenticator, fake, create_app(parts), parts), chance, names
        await loop.close()
        await agents.close()
        rows.close()


async def all_agree(facility: Facility, people: list[dict[str, Any]]) -> list[Said]:
    """Everybody logs in; then each of them is looked at from all sides."""
    known = [(said, await facility.enrol(said)) for said in people]
    policy = facility.policy.current()
    mapping = compile_mapping(policy, facility.people, time.time())
    assert not any(mapper.may_be_account(account) for account in mapping.refused), "no two have one"
    table = facility.folder / "table.json"
    table.write_text(mapping.table)
    accounting = dict(line.split()[1:] for line in mapping.accounting_map.splitlines())
    found = []
    for told, claims in known:
        said = facility.explained(claims)
        name = told["preferred_username"]
        if claims:
            hub = await facility.hub_allows(name)
            # A session takes an image and a size: who has none of the one is offered none of the other.
            offered = {"images": said.images, "sizes": said.sizes} if said.images and said.sizes else NOTHING
            assert hub == {"login": said.login, "admin": said.admin, "account": said.account, **offered}, name
        else:
            with pytest.raises(Refused):
                await facility.parts.hub.claims(name)
        controller = await facility.controller_allows(name, said)
        may_cluster = bool(said.account and said.sites and said.images and said.clusters)
        assert controller["sites"] == said.sites, name
        assert controller["clusters"] == (said.clusters if may_cluster else 0), name
        assert controller["accounts"] == ({(said.account, said.group)} if may_cluster else set()), name
        assert await facility.pool_allows(table, accounting, told) == (said.account, said.group), name
        found.append(said)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("facility", [5], indirect=True)
async def test_explain_is_what_a_few_people_get(facility: Any) -> None:
    running, chance, names = facility
    await all_agree(running, list(make_people(chance, names[5:20], at_utc(time.time()))))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("facility", [1, 2], indirect=True)
async def test_explain_is_what_two_hundred_people_get(facility: Any) -> None:
    running, chance, names = facility
    found = await all_agree(running, list(make_people(chance, names, at_utc(time.time()))))
    assert len(found) == 200 and 30 < sum(said.login for said in found) < 180
    assert sum(bool(said.account) for said in found) > 20 and len({said.clusters for said in found}) == 3
