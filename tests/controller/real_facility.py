"""Hub, forwarder, controller and session agent around a real pool: the way of a cluster from a notebook to a site."""

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from test_app import controller, environment, keys_command
from world import FACILITY

from af_hub.client.api import Controller
from af_hub.condor.pool import CondorPool
from af_hub.controller.settings import SERVICE
from af_hub.forwarder.login import ForwarderAddress
from af_hub.testing.fake_hub import FakeHub
from af_hub.testing.process import Daemon

SCOPES = "compute.read compute.create compute.modify compute.cancel wlcg.groups"
ANALYST, COLLEAGUE = "cms-analyst", "cms-colleague"


@dataclass
class Facility:
    """What runs, for one person; ``audience`` is for whom their tokens are meant."""

    folder: Path
    pool: object
    iam: object
    audience: str
    hub: FakeHub = None
    forwarder: Daemon = None
    url: str = ""
    environment: dict = field(default_factory=dict)
    tokens: dict = field(default_factory=dict)

    def mint(self, name):
        return self.iam.mint(name, scope=SCOPES, audience=self.audience, profile="wlcg")

    def controller(self, person=ANALYST):
        if person not in self.tokens:
            self.tokens[person] = self.hub.token_of(person)
        return Controller(self.url, self.tokens[person])

    @property
    def batch(self):
        return CondorPool(self.pool.collector, self.pool.schedd, str(self.pool.ca_file))

    async def jobs(self):
        return await self.batch.jobs(self.pool.reader_token)

    async def create(self, person=ANALYST, **changed):
        asked = {"site": "T2_A", "image": "python-analysis", "workers": 1, "cores": 1, "memory": 2**29}
        return await self.controller(person).create(asked | changed)

    async def until(self, cluster, holds, seconds=10):
        """Ask until ``holds(row)``."""
        try:
            async with asyncio.timeout(seconds):
                while not holds(found := await self.controller(cluster["owner"]).get(cluster["id"])):
                    await asyncio.sleep(0.1)
                return found
        except TimeoutError:
            raise AssertionError((found["state"], found["reason"])) from None

    async def ends(self, cluster, state, seconds=10):
        """The sentence with which it comes into this state; nothing of it is left in the queue soon after."""
        found = await self.until(cluster, lambda row: row["state"] == state, seconds)
        await self.leaves_nothing(cluster)
        return found["reason"]

    async def leaves_nothing(self, cluster, seconds=20):
        async with asyncio.timeout(seconds):
            while any(job.cluster == cluster["id"] for job in await self.jobs()):
                await asyncio.sleep(0.2)


def facility_file(pool):
    text = FACILITY.replace("/images/python-analysis", sys.prefix)
    text = text.replace("c:9618", pool.collector).replace("schedd: s,", f"schedd: {pool.schedd},")
    text = text.replace("/ca.pem", str(pool.ca_file))
    # The access point maps people as the shipped policy says.
    text = text.replace("cms-{username}", "u-cms-{username}")
    return text


@contextlib.asynccontextmanager
async def open_facility(folder, iam, pool, change=lambda text: text):
    """All of it; ``change`` is given the text of ``facility.yaml``."""
    facility = Facility(folder, pool, iam, pool.audience)
    argv = [sys.executable, "-m", "af_hub.forwarder.server", "--listen", "127.0.0.1:0", "--ready-fd", "{ready_fd}"]
    argv += ["--host-key", str(folder / "host_key"), "--user-ca", keys_command(folder / "state")]
    async with FakeHub({name: ["/cms/itcms"] for name in (ANALYST, COLLEAGUE)}, mint=facility.mint) as hub:
        facility.hub = hub
        with Daemon("forwarder", argv, folder / "forwarder.log") as forwarder:
            facility.forwarder = forwarder
            found = await asyncio.to_thread(forwarder.ready)
            own = {
                "AF_HUB_API_URL": f"{hub.url}/hub/api",
                "AF_CONDOR_READER_TOKEN_FILE": str(pool.reader_token),
                "AF_PUBLIC_URL": "http://hub.test/",
            }
            environ = environment(folder, ForwarderAddress(found["host"], found["port"], found["host_key"]), **own)
            (folder / "facility.yaml").write_text(change(facility_file(pool)))
            with controller(folder, environ) as daemon:
                facility.url = (await asyncio.to_thread(daemon.ready))["url"] + f"/services/{SERVICE}/"
                with session_agent(folder, hub, facility.url) as agent:
                    told = await asyncio.to_thread(agent.ready)
                    facility.environment = {
                        "AF_CONTROLLER_URL": facility.url,
                        "JUPYTERHUB_API_TOKEN": hub.token_of(ANALYST),
                        "AF_AGENT_SOCKET": told["socket"],
                        "AF_IMAGE": "python-analysis",
                    }
                    yield facility


def session_agent(folder, hub, url):
    session = folder / "session"
    session.mkdir(mode=0o700)
    config = {
        "folder": str(session),
        "hub_api_url": f"{hub.url}/hub/api",
        "hub_token": hub.token_of(ANALYST),
        "controller_url": url,
    }
    (session / "config.json").write_text(json.dumps(config))
    argv = [sys.executable, "-m", "af_hub.session.agent", "--config", str(session / "config.json")]
    return Daemon("session agent", [*argv, "--ready-fd", "{ready_fd}"], folder / "session-agent.log")
