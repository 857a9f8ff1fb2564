import pytest
from world import FACILITY, Clock, World

from af_hub.testing.fake_hub import FakeHub
from af_hub.testing.fake_site import FakeSite


@pytest.fixture
async def world(tmp_path):
    (tmp_path / "facility.yaml").write_text(FACILITY)
    people = {"cms-analyst": ["/cms", "/cms/itcms"], "cms-colleague": ["/cms/itcms"], "guest": ["/guests"], "out": []}
    async with FakeHub(people) as hub, FakeSite() as site:
        world = World(hub, site, tmp_path, Clock(), owner=hub.token_of("cms-analyst")).start()
        yield world
        await world.stop()
