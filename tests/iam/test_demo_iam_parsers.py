"""Whatever is sent, the demo IAM's parsers answer with a value that holds what they promise, or with a fault of the protocol."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.testing.iam_device import LETTERS, new_user_code, read_user_code
from af_hub.testing.iam_exchange import ExchangePolicy, decide_exchange
from af_hub.testing.iam_faults import KINDS, endpoint_of, read_fault
from af_hub.testing.iam_oauth import (
    SCOPES,
    DemoClient,
    Fault,
    client_credentials,
    is_within,
    read_request,
)
from af_hub.testing.iam_scim import PAGE, describe_page, read_page

TEXT = st.text(max_size=40)
FORM = st.dictionaries(st.sampled_from(["scope", "subject_token_type", "actor_token", "want_composite"]), TEXT)
SCOPE_LISTS = st.lists(st.sampled_from([*SCOPES, "storage.read:/cms", "scim:read", "x"]), max_size=5).map(tuple)


def value_or_fault(call: Callable[[], object]) -> object:
    try:
        return call()
    except Fault as fault:
        assert fault.status in (400, 401, 403) and fault.error and str(fault)
        return None


@given(st.builds(new_user_code), st.lists(st.sampled_from(" -_.·\t"), max_size=9), st.booleans())
def test_a_user_code_is_read_however_it_is_typed(code: str, noise: list[str], small: bool) -> None:
    typed = "".join(a + b for a, b in zip(code, [*noise, *[""] * len(code)], strict=False))
    assert read_user_code(typed.lower() if small else typed) == code


@given(TEXT)
def test_nothing_else_is_a_user_code(typed: str) -> None:
    found = read_user_code(typed)
    assert found == "" or (len(found) == 9 and set(found) - {"-"} <= set(LETTERS))


@given(TEXT, st.dictionaries(st.sampled_from(["client_id", "client_secret"]), TEXT))
def test_client_credentials(authorization: str, form: dict[str, str]) -> None:
    for header in authorization, f"Basic {authorization}":
        value_or_fault(lambda header=header: client_credentials(header, form))  # type: ignore[misc]


@given(st.dictionaries(st.sampled_from(["startIndex", "count"]), TEXT | st.integers().map(str)))
def test_a_page_is_never_larger_than_iam_gives(asked: dict[str, str]) -> None:
    found = value_or_fault(lambda: read_page(asked))
    if isinstance(found, tuple):
        start, count = found
        assert start >= 1 and 0 <= count <= PAGE
        people = [{"id": n} for n in range(250)]
        page = describe_page(people, start, count)
        assert page["Resources"] == people[start - 1 : start - 1 + count]


@given(st.dictionaries(st.sampled_from(["scope", "response_type", "code_challenge", "code_challenge_method"]), TEXT))
def test_authorization_requests(asked: dict[str, str]) -> None:
    client = DemoClient("hub", "", ("https://x.test/",))
    value_or_fault(lambda: read_request({"redirect_uri": "https://x.test/", **asked}, client, 0.0))


@given(FORM, SCOPE_LISTS, SCOPE_LISTS, SCOPE_LISTS, st.booleans(), st.booleans())
def test_an_exchange_never_gives_more_than_both_clients_may_have(
    form: dict[str, str],
    held: tuple[str, ...],
    origin_scopes: tuple[str, ...],
    actor_scopes: tuple[str, ...],
    same: bool,
    up: bool,
) -> None:
    origin = DemoClient("origin", "", scopes=origin_scopes, upscoping=up)
    actor = origin if same else DemoClient("actor", "", scopes=actor_scopes)
    scopes = value_or_fault(lambda: decide_exchange(form, held, origin, actor, [ExchangePolicy()]))
    if isinstance(scopes, tuple):
        asked = form.get("scope", "").split()
        bound = origin_scopes if up else held
        assert all(is_within(one, bound) and is_within(one, actor.scopes) for one in asked if one != "offline_access")
        assert not (same and "offline_access" in scopes)
        assert asked or scopes == held


@pytest.mark.parametrize(
    "policies, permitted",
    [
        pytest.param([], False, id="none"),
        pytest.param([ExchangePolicy()], True, id="all to all"),
        pytest.param([ExchangePolicy(), ExchangePolicy("a", "b", permit=False)], False, id="the specific one counts"),
        pytest.param(
            [ExchangePolicy(permit=False), ExchangePolicy("a")], True, id="the specific one counts, to permit"
        ),
        pytest.param([ExchangePolicy("a"), ExchangePolicy("a", permit=False)], False, id="a denial among equals"),
        pytest.param([ExchangePolicy("c")], False, id="about others"),
        pytest.param([ExchangePolicy(scopes=("openid",))], False, id="not that scope"),
    ],
)
def test_exchange_policies(policies: list[ExchangePolicy], permitted: bool) -> None:
    a, b = DemoClient("a", ""), DemoClient("b", "")
    found = value_or_fault(lambda: decide_exchange({"scope": "compute.read"}, ("openid",), a, b, policies))
    assert (found is not None) == permitted


@pytest.mark.parametrize(
    "scope, allowed, within",
    [
        pytest.param("openid", "openid", True, id="the same"),
        pytest.param("storage.read:/cms/x", "storage.read:/", True, id="a path below"),
        pytest.param("storage.read:/cms", "storage.read:/cms/", True, id="a slash more"),
        pytest.param("storage.read:/cmsx", "storage.read:/cms", False, id="a longer name"),
        pytest.param("storage.read:/cms/../x", "storage.read:/cms", False, id="up again"),
        pytest.param("storage.create:/", "storage.read:/", False, id="another right"),
        pytest.param("wlcg.groups:/cms", "wlcg.groups", True, id="one group"),
        pytest.param("openid:/x", "openid", False, id="a path of what has none"),
    ],
)
def test_scopes_within_others(scope: str, allowed: str, within: bool) -> None:
    assert is_within(scope, [allowed]) == within


@given(TEXT)
def test_faults_of_a_command_line(text: str) -> None:
    try:
        endpoint, kind = read_fault(text)
    except ArgumentTypeError as error:
        assert "wanted" in str(error)
    else:
        assert kind in KINDS and endpoint


@given(TEXT)
def test_any_path_has_an_endpoint_or_none(path: str) -> None:
    assert isinstance(endpoint_of(path), str)
