"""What happens to people of this hub when the IAM says yes, says no, changes its mind, or does not answer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.other_hub import OtherHub
from af_hub.testing.process import comes_true

CONFIG = Path(__file__).parent / "jupyterhub_config.py"


@pytest.fixture(scope="session")
def our_hub(start_hub: Callable[[Path], OtherHub]) -> OtherHub:
    return start_hub(CONFIG)


def test_member_gets_in(our_hub: OtherHub) -> None:
    page = our_hub.login("cms-analyst").get("/hub/home")
    assert page.status_code == 200 and "cms-analyst" in page.text


def test_others_do_not(our_hub: OtherHub) -> None:
    with pytest.raises(PermissionError, match="HTTP 403"):
        our_hub.login("outsider")


def test_hub_knows_the_groups(our_hub: OtherHub, iam_user: Callable[..., DemoUser]) -> None:
    iam_user("ada", groups=("/cms", "/cms/itcms"))
    found = our_hub.api(our_hub.token_for("ada")).get("/user").json()
    assert sorted(found["groups"]) == ["/cms", "/cms/itcms"]


def test_renamed_person_gets_another_account(
    our_hub: OtherHub, failing_iam: DemoIAM, iam_user: Callable[..., DemoUser]
) -> None:
    """Plain oauthenticator goes by the name alone: the person loses the account, and who gets the name gets it too."""
    iam_user("grace", groups=("/cms/itcms",))
    our_hub.login("grace")
    failing_iam.rename("grace", "hopper")
    assert "hopper" in our_hub.login("hopper").get("/hub/home").text


@pytest.mark.xfail(strict=True, reason="plain oauthenticator locks out who is logged in while the IAM is down")
def test_outage_takes_nobody_out(our_hub: OtherHub, failing_iam: DemoIAM) -> None:
    browser = our_hub.login("cms-analyst")
    failing_iam.down = True
    assert not comes_true(lambda: "cms-analyst" not in browser.get("/hub/home").text, timeout=5)
