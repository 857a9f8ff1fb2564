"""The demo IAM's device page, with a browser: the code is typed, whoever it is sees what asks, and the page can be used by everybody."""

from collections.abc import Iterator

import httpx
import pytest

from af_hub.testing.chromium import Person
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DEVICE_GRANT, DemoClient

pytestmark = [pytest.mark.real, pytest.mark.long]

CLIENT = DemoClient("laptop-hub", "s3cret")
PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture
def begun(failing_iam: DemoIAM) -> Iterator[dict[str, str]]:
    failing_iam.clients[CLIENT.client_id] = CLIENT
    auth = (CLIENT.client_id, CLIENT.client_secret)
    yield httpx.post(failing_iam.url + "devicecode", data={"scope": "openid profile"}, auth=auth).json()
    del failing_iam.clients[CLIENT.client_id]


def faults(person: Person) -> list[str]:
    """What is wrong with this page, on a desk, on a phone and in the dark."""
    found = []
    for window, dark in (DESKTOP, False), (PHONE, True):
        person.window(*window)
        person.dark(dark)
        found += person.faults()
    person.dark(False)
    person.window(*DESKTOP)
    return [*found, *person.keyboard_faults()]


def test_somebody_signs_a_program_in(person: Person, failing_iam: DemoIAM, begun: dict[str, str]) -> None:
    failing_iam.unsign("cms-analyst")
    person.go(begun["verification_uri"])
    assert faults(person) == []
    person.see("#user_code").send_keys("wrong-code")
    person.click_on("Go on")
    person.read("No program waits for that code")
    person.see("#user_code").send_keys(begun["user_code"].lower())
    person.click_on("Go on")
    person.read("laptop-hub wants to sign in as you")
    assert faults(person) == []
    person.click_on("cms-analyst")
    person.read("There is an agreement to sign")
    assert faults(person) == []
    person.click_on("I agree")
    person.read("You are signed in")
    form = {"grant_type": DEVICE_GRANT, "device_code": begun["device_code"]}
    answer = httpx.post(failing_iam.url + "token", data=form, auth=(CLIENT.client_id, CLIENT.client_secret))
    assert failing_iam.verified(answer.json()["access_token"])["sub"] == failing_iam.users["cms-analyst"].subject


def test_somebody_says_no(person: Person, begun: dict[str, str]) -> None:
    person.go(begun["verification_uri_complete"])
    person.click_on("Go on")
    person.click_on("None of them")
    person.read("Nothing was signed in")
