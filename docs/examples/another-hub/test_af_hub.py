"""The same questions, asked of AF Hub's authenticator: the fixture ``hub`` is a hub with it."""

import pytest

from af_hub.testing.hub import RealHub
from af_hub.testing.iam import DemoIAM


def test_member_gets_in(hub: RealHub) -> None:
    assert "cms-analyst" in hub.login("cms-analyst").get("/hub/home").text


def test_others_are_told_why(hub: RealHub) -> None:
    with pytest.raises(PermissionError, match="/cms/itcms"):
        hub.login("outsider")


@pytest.mark.parametrize("kind", ["down", "busy", "crash"])
def test_outage_takes_nobody_out(hub: RealHub, failing_iam: DemoIAM, kind: str) -> None:
    browser = hub.login("cms-analyst")
    failing_iam.faults["*"] = kind  # type: ignore[assignment]
    assert browser.get("/hub/home").status_code == 200
