import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.errors import EndpointRefused
from af_hub.forwarder.access import (
    Endpoint,
    Principal,
    Role,
    Service,
    may_command,
    may_offer,
    may_open,
    read_endpoint,
    read_login,
    read_principal,
)

MINE = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
endpoints = st.builds(Endpoint, ids, st.sampled_from(Service))
principals = st.one_of(
    st.just(Principal(Role.CONTROLLER)), st.builds(Principal, st.sampled_from([Role.JOB, Role.SESSION]), ids)
)


@given(endpoints)
def test_an_endpoint_reads_what_it_writes(endpoint):
    assert read_endpoint(str(endpoint)) == endpoint


@given(principals)
def test_a_principal_reads_what_it_writes(principal):
    assert read_principal(str(principal)) == principal
    assert read_login(str(principal), [str(principal)]) == principal


@given(st.one_of(st.text(), st.from_regex(r"/?[0-9a-fA-F]{30,33}/(scheduler|dashboard|agent)[\s/]?")))
def test_only_what_is_written_exactly_is_an_endpoint(text):
    try:
        endpoint = read_endpoint(text)
    except EndpointRefused:
        return
    assert str(endpoint) == text


@given(st.one_of(st.text(), st.from_regex(r"(job|session|controller|JOB):?[0-9a-fA-F]{0,33}\s?")))
def test_only_what_is_written_exactly_is_a_principal(text):
    try:
        principal = read_principal(text)
    except EndpointRefused:
        return
    assert str(principal) == text


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("", id="empty"),
        pytest.param(f"{MINE}/scheduler", id="relative"),
        pytest.param(f"//{MINE}/scheduler", id="two slashes"),
        pytest.param(f"/{MINE}//scheduler", id="empty part"),
        pytest.param(f"/{MINE}/scheduler/", id="trailing slash"),
        pytest.param(f"/{MINE}/scheduler\n", id="trailing newline"),
        pytest.param(f"/{MINE}/scheduler\0", id="trailing NUL"),
        pytest.param(f"/{MINE}\n/scheduler", id="newline in the id"),
        pytest.param(f"/{MINE.upper()}/scheduler", id="upper case id"),
        pytest.param(f"/{MINE}/Scheduler", id="upper case service"),
        pytest.param(f"/{MINE[:-1]}/scheduler", id="31 digits"),
        pytest.param(f"/{MINE}0/scheduler", id="33 digits"),
        pytest.param(f"/{MINE[:-1]}٣/scheduler", id="a digit of another script"),
        pytest.param(f"/{MINE}/ѕcheduler", id="a letter of another script"),
        pytest.param(f"/{OTHER}/../{MINE}/scheduler", id="up and down"),
        pytest.param(f"/{MINE}/shell", id="unknown service"),
        pytest.param(f"/{MINE}", id="no service"),
        pytest.param("/etc/passwd", id="a file"),
    ],
)
def test_paths_that_look_alike_are_refused(path):
    with pytest.raises(EndpointRefused):
        read_endpoint(path)


@pytest.mark.parametrize(
    "username, names",
    [
        pytest.param("controller", [], id="no principal: OpenSSH takes that for everybody"),
        pytest.param(f"session:{MINE}", [f"session:{MINE}", f"session:{OTHER}"], id="two principals"),
        pytest.param(f"session:{MINE}", [f"session:{MINE}", f"session:{MINE}"], id="the same twice"),
        pytest.param(f"session:{MINE}", [f"session:{OTHER}"], id="another user name"),
        pytest.param(f"job:{MINE}", [f"session:{MINE}"], id="another role"),
        pytest.param("root", ["root"], id="no role of ours"),
        pytest.param("controller:", ["controller:"], id="controller with an empty cluster"),
        pytest.param(f"controller:{MINE}", [f"controller:{MINE}"], id="controller of a cluster"),
        pytest.param("job:", ["job:"], id="a job of nothing"),
        pytest.param(f"session:{MINE},controller", [f"session:{MINE},controller"], id="a list in one name"),
    ],
)
def test_logins_that_are_refused(username, names):
    with pytest.raises(EndpointRefused):
        read_login(username, names)


@pytest.mark.parametrize(
    "principal, opens, offers",
    [
        pytest.param(f"job:{MINE}", "", "scheduler dashboard agent", id="a job offers and opens nothing"),
        pytest.param(f"job:{OTHER}", "", "", id="another job"),
        pytest.param(f"session:{MINE}", "scheduler dashboard", "", id="a session"),
        pytest.param(f"session:{OTHER}", "", "", id="another session"),
        pytest.param("controller", "dashboard agent", "", id="the controller"),
    ],
)
def test_who_may_do_what(principal, opens, offers):
    who = read_principal(principal)
    for service in Service:
        endpoint = Endpoint(MINE, service)
        assert may_open(who, endpoint) == (service in opens.split())
        assert may_offer(who, endpoint) == (service in offers.split())
    assert may_command(who) == (principal == "controller")


@given(principals, endpoints)
def test_nobody_but_the_controller_reaches_another_dask_cluster(principal, endpoint):
    if may_open(principal, endpoint) or may_offer(principal, endpoint):
        assert principal.role is Role.CONTROLLER or principal.dask_cluster == endpoint.dask_cluster
    assert not (may_open(principal, endpoint) and may_offer(principal, endpoint))
