"""A login by code, from the hub's side: what the IAM answers, and what is never shown to anybody."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.errors import IAMAway, IAMRefused, Unavailable
from af_hub.iam.device import LONGEST_INTERVAL, LONGEST_SECONDS, PENDING, SLOW_DOWN, read_device_start
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient
from af_hub.testing.iam_state import write_state
from af_hub.testing.iam_tokens import DemoUser, SigningKeys

KEYS = SigningKeys()
GOOD: dict[str, object] = {
    "device_code": "d" * 43,
    "user_code": "BCDF-GHJK",
    "verification_uri": "https://iam.test/device",
    "expires_in": 600,
}


@pytest.fixture
async def iam(tmp_path: Path) -> AsyncIterator[DemoIAM]:
    write_state(tmp_path / "state.json", KEYS, {})
    ada = DemoUser("ada", "sub-ada", groups=("/cms",))
    async with DemoIAM([ada], [DemoClient("hub", "s3cret")], state=tmp_path / "state.json", interval=0) as iam:
        yield iam


def client(iam: DemoIAM, secret: str = "s3cret") -> IAMClient:
    return IAMClient(Discovery(iam.issuer, iam.discovery), "hub", secret)


async def test_login_by_code(iam: DemoIAM) -> None:
    hub = client(iam)
    begun = await hub.begin_device("openid profile wlcg.groups offline_access")
    assert begun.user_code in begun.whole_address and begun.device_code not in repr(begun)
    with pytest.raises(IAMRefused) as waiting:
        await hub.redeem_device(begun.device_code)
    assert waiting.value.code == PENDING
    iam.devices.answer(begun.user_code, "ada")
    answer = await hub.redeem_device(begun.device_code)
    assert (await hub.person(answer, None))["preferred_username"] == "ada" and answer.refresh_token


async def test_refusals_have_their_codes(iam: DemoIAM) -> None:
    hub = client(iam)
    refused = await hub.begin_device("openid")
    iam.devices.answer(refused.user_code, None)
    iam.interval = 60
    hasty = await hub.begin_device("openid")
    codes = []
    for code in refused.device_code, hasty.device_code, hasty.device_code:
        with pytest.raises(IAMRefused) as caught:
            await hub.redeem_device(code)
        codes.append(caught.value.code)
    assert codes == ["access_denied", PENDING, SLOW_DOWN]


async def test_a_hub_that_the_iam_does_not_want(iam: DemoIAM) -> None:
    with pytest.raises(IAMAway, match="invalid_client"):
        await client(iam, "wrong").begin_device("openid")
    with pytest.raises(Unavailable, match="invalid_scope"):
        await client(iam).begin_device("openid scim:read")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"user_code": "\x1b[2Jhello"}, id="escapes for the terminal"),
        pytest.param({"user_code": None}, id="no code"),
        pytest.param({"verification_uri": "javascript:alert(1)"}, id="no address"),
        pytest.param({"verification_uri": "https://iam.test/\u202etxt"}, id="text that turns around"),
        pytest.param({"device_code": ["x"]}, id="not a text"),
    ],
)
def test_what_nobody_should_be_shown(changed: dict[str, object]) -> None:
    with pytest.raises(Unavailable, match=next(iter(changed))):
        read_device_start({**GOOD, **changed})


def test_an_odd_whole_address_is_left_out() -> None:
    assert read_device_start({**GOOD, "verification_uri_complete": "file:///etc/passwd"}).whole_address == ""


@given(
    st.dictionaries(st.sampled_from(["expires_in", "interval"]), st.integers() | st.floats() | st.text() | st.none())
)
def test_times_are_sane(said: dict[str, object]) -> None:
    found = read_device_start({**GOOD, **said})
    assert 0 < found.seconds <= LONGEST_SECONDS and 1 <= found.interval <= LONGEST_INTERVAL
    assert not math.isnan(found.seconds + found.interval)
