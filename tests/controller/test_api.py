import asyncio
import itertools
import json

import asyncssh
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from world import FACILITY, ORIGIN, PREFIX

from af_hub.controller.api import NEWS_SECONDS
from af_hub.controller.guard import BODY_BYTES
from af_hub.policy.load import read_policy
from af_hub.testing.fake_hub import SERVICE_SCOPE

NOBODY = "f" * 32


def session_keys():
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    ssh = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    return {"ssh_public_key": ssh, "tls_csr": csr.public_bytes(serialization.Encoding.PEM).decode()}


ROUTES = [
    ("GET", "api/sites", None, 200),
    ("GET", "api/clusters", None, 200),
    ("POST", "api/clusters", {"site": "T2_A", "image": "python-analysis"}, 201),
    ("GET", "api/clusters/{id}", None, 200),
    ("PATCH", "api/clusters/{id}", {"workers": 2}, 200),
    ("GET", "api/clusters/{id}/logs", None, 200),
    ("POST", "api/clusters/{id}/credentials", session_keys(), 200),
    ("GET", "clusters/{id}/dashboard/status", None, 200),
    ("DELETE", "api/clusters/{id}", None, 202),
]
WHO = ["owner", "other user", "no token", "bad token", "no scope", "a service", "a service's own kind"]


async def token_for(world, who):
    match who:
        case "owner":
            return world.owner
        case "other user":
            return world.hub.token_of("cms-colleague")
        case "no token":
            return None
        case "bad token":
            return "0" * 32
        case "no scope":
            return world.hub.token_of("cms-analyst", ["read:users!user=cms-analyst"])
        case "a service":
            return world.hub.token_of("cms-analyst", [SERVICE_SCOPE], kind="service")
        case "a service's own kind":
            return world.hub.token_of("cms-analyst", ["access:services!service=another"])


@pytest.fixture
async def running(world):
    cluster = await world.create()
    await world.until(cluster, "running")
    return cluster


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("method, path, body, status", ROUTES, ids=[f"{route[0]} {route[1]}" for route in ROUTES])
async def test_who_may_do_what(world, running, method, path, body, status, who):
    wanted = {
        "owner": status,
        "other user": 404 if "{id}" in path else status,
        "no token": 302 if "dashboard" in path else 401,
        "bad token": 401,
        "no scope": 403,
        "a service": 401,
        "a service's own kind": 403,
    }[who]
    async with world.api(await token_for(world, who)) as api:
        answer = await api.request(method, path.format(id=running), json=body)
        assert answer.status_code == wanted, answer.text
        if who == "other user" and wanted == 404:
            missing = await api.request(method, path.format(id=NOBODY), json=body)
            assert (missing.status_code, missing.content) == (answer.status_code, answer.content)
    if who != "owner":
        assert world.get(running).state == "running" and world.get(running).workers_wanted == 1
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == {"type", "title", "status", "detail"}


async def test_a_cluster_as_its_owner_sees_it(world, running):
    async with world.api(world.owner) as api:
        found = (await api.get(f"api/clusters/{running}")).json()
        listed = (await api.get("api/clusters")).json()
    assert listed == [found]
    assert found["dashboard"] == f"{ORIGIN}{PREFIX}clusters/{running}/dashboard/status"
    assert found["name"] == f"T2_A-{running[:4]}" and found["owner"] == "cms-analyst"
    assert found["expires_at"] - found["created_at"] == 3600
    assert (found["workers_wanted"], found["workers_running"]) == (1, 1)
    assert found["events"][0]["sentence"] == "asked for"
    assert world.get(running).account == "cms-cms-analyst" and world.get(running).accounting_group == "cms.itcms"


async def test_nobody_sees_clusters_of_others_in_the_list(world, running):
    async with world.api(world.hub.token_of("cms-colleague")) as api:
        assert (await api.get("api/clusters")).json() == []


async def test_sites_are_those_of_ones_groups_with_what_is_free(world):
    async with world.api(world.owner) as api:
        found = (await api.get("api/sites")).json()
        (site,) = found
        assert site.pop("shared"), "a site that nobody has checked counts as shared"
        free = {"cores": 8, "cores_free": 6}
        assert site == {"name": "T2_A", "title": "Tier-2 A", "cache": "root://cache.test:1094"} | free
        world.site.unreachable = True
        assert (await api.get("api/sites")).json()[0]["cores_free"] is None
    async with world.api(world.hub.token_of("guest")) as api:
        assert (await api.get("api/sites")).json() == []


@pytest.mark.parametrize(
    "user, change, status, says",
    [
        pytest.param("cms-analyst", {"site": "T2_B"}, 403, "open are: T2_A", id="site"),
        pytest.param("cms-analyst", {"site": "nowhere"}, 403, "nowhere", id="no such site"),
        pytest.param("cms-analyst", {"image": "python-base"}, 403, "python-analysis", id="image"),
        pytest.param("cms-analyst", {"workers": 9}, 403, "8 such workers would fit", id="cores of all"),
        pytest.param("cms-analyst", {"cores": 9}, 403, "not even one", id="cores of one"),
        pytest.param("cms-analyst", {"memory": 3 * 2**30, "workers": 6}, 403, "18 GiB", id="memory"),
        pytest.param("guest", {}, 403, "no HTCondor account", id="no account"),
        pytest.param("out", {}, 403, "may log in", id="no login"),
        pytest.param("stranger", {}, 403, "log in at the hub once", id="never logged in"),
    ],
)
async def test_what_the_policy_refuses(world, user, change, status, says):
    asked = {"site": "T2_A", "image": "python-analysis"} | change
    async with world.api(world.hub.token_of(user)) as api:
        answer = await api.post("api/clusters", json=asked)
    assert answer.status_code == status and says in answer.json()["detail"]
    assert world.parts.store.of_owner(user) == []


GOOD = {"site": "T2_A", "image": "python-analysis"}


@pytest.mark.parametrize(
    "body, says",
    [
        pytest.param(
            {},
            "site: found nothing, wanted a value; put one there; image: found nothing, wanted a value; put one there",
            id="nothing",
        ),
        pytest.param({"site": "T2_A"}, "image: found nothing, wanted a value; put one there", id="no image"),
        pytest.param(
            GOOD | {"owner": "root"},
            "owner: found a text of 4 characters, wanted no such name; leave it out",
            id="unknown key",
        ),
        pytest.param(GOOD | {"workers": -1}, "workers: found -1, wanted at least 0", id="fewer than none"),
        pytest.param(
            GOOD | {"workers": "2"}, "workers: found a text of 1 character, wanted a whole number", id="number as text"
        ),
        pytest.param(GOOD | {"workers": True}, "workers: found true, wanted a whole number", id="truth as number"),
        pytest.param(GOOD | {"workers": None}, "workers: found null, wanted a whole number", id="no number"),
        pytest.param(GOOD | {"cores": 0}, "cores: found 0, wanted at least 1", id="no core"),
        pytest.param(GOOD | {"cores": 1.5}, "cores: found 1.5, wanted a whole number", id="half a core"),
        pytest.param(GOOD | {"memory": 1}, "memory: found 1, wanted at least 268435456 (256 MiB)", id="no memory"),
        pytest.param(
            GOOD | {"memory": 10**40}, "memory: found a very long number, wanted at most 4398046511104", id="too much"
        ),
        pytest.param(
            GOOD | {"name": "<script>x"},
            "name: found a text of 9 characters, wanted a letter or digit, then at most 62 letters",
            id="a name with markup",
        ),
        pytest.param(GOOD | {"name": "a" * 64}, "name: found a text of 64 characters, wanted", id="a long name"),
        pytest.param(
            GOOD | {"name": "a\n"}, "name: found a text of 2 characters, wanted", id="a name with a line break"
        ),
        pytest.param(
            GOOD | {"image": "i" * 65}, "image: found a text of 65 characters, wanted at most 64 characters", id="long"
        ),
        pytest.param(GOOD | {"site": ["T2_A"]}, "site: found a list, wanted a text", id="a list of sites"),
        pytest.param([], "the body: found a list, wanted a JSON object", id="a list"),
    ],
)
async def test_what_is_not_understood(world, body, says):
    async with world.api(world.owner) as api:
        answer = await api.post("api/clusters", json=body)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(says), answer.json()["detail"]
    assert world.parts.store.of_owner("cms-analyst") == []


async def test_what_is_no_json_is_not_understood(world):
    async with world.api(world.owner) as api:
        answer = await api.post("api/clusters", content=b"{site", headers={"Content-Type": "application/json"})
        assert answer.json()["detail"] == "the body: found something else, wanted JSON"
        answer = await api.post("api/clusters", content=b"site=T2_A")
        assert answer.json()["detail"].startswith("the body: found a text of 9 characters, wanted a JSON object")


async def test_errors_never_repeat_what_was_sent(world, running):
    sent = {"ssh_public_key": "very secret", "tls_csr": 7}
    async with world.api(world.owner) as api:
        answers = [
            await api.post(f"api/clusters/{running}/credentials", json=sent),
            await api.post(f"api/clusters/{running}/credentials", json=sent | {"tls_csr": "x"}),
            await api.post(f"api/clusters/{running}/credentials", content=b"{very secret"),
        ]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert not any("very secret" in answer.text for answer in answers)


async def test_scaling_is_checked_too(world, running):
    async with world.api(world.owner) as api:
        assert (await api.patch(f"api/clusters/{running}", json={"workers": 9})).status_code == 403
        assert (await api.patch(f"api/clusters/{running}", json={"workers": 0})).json()["workers_wanted"] == 0


async def test_nobody_has_more_clusters_than_the_policy_gives(world):
    wanted = {"site": "T2_A", "image": "python-analysis"}
    async with world.api(world.owner) as api:
        answers = await asyncio.gather(*(api.post("api/clusters", json=wanted) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 403, 403, 403]
        refused = next(answer.json()["detail"] for answer in answers if answer.status_code == 403)
        assert "You have 3 Dask clusters, and your limit is 3" in refused
        first = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
        await api.delete(f"api/clusters/{first}")
        await world.until(first, "closed")
        assert (await api.post("api/clusters", json=wanted)).status_code == 201


async def test_rights_that_went_away(world, running):
    world.hub.people["cms-analyst"] = ["/cms"]
    async with world.api(world.owner) as api:
        assert (await api.patch(f"api/clusters/{running}", json={"workers": 2})).status_code == 403
        assert (await api.delete(f"api/clusters/{running}")).status_code == 202, "closing is always allowed"


class EditedAllTheTime:
    """A policy file in which each look finds the next of these policies."""

    def __init__(self, *policies):
        self._policies = itertools.cycle(policies)

    def current(self):
        return next(self._policies)


@pytest.mark.parametrize("before, status", [(True, 201), (False, 403)], ids=["a site goes", "a site comes"])
async def test_an_edit_meanwhile_is_for_the_next_decision(world, before, status):
    policies = [read_policy(text, "facility.yaml", {}) for text in (FACILITY, FACILITY.replace("T2_A", "T2_C"))]
    world.parts.policy = EditedAllTheTime(*policies if before else reversed(policies))
    async with world.api(world.owner) as api:
        answer = await api.post("api/clusters", json={"site": "T2_A", "image": "python-analysis"})
        assert answer.status_code == status, answer.text
        for _ in policies:
            assert (await api.get("api/sites")).status_code == 200


async def test_after_the_end(world, running):
    async with world.api(world.owner) as api:
        await api.delete(f"api/clusters/{running}")
        assert (await api.delete(f"api/clusters/{running}")).status_code == 202
        assert (await api.patch(f"api/clusters/{running}", json={"workers": 2})).status_code == 409
        answer = await api.post(f"api/clusters/{running}/credentials", json=session_keys())
        assert answer.status_code == 409 and "closing" in answer.json()["detail"]
        await world.until(running, "closed")
        assert (await api.get(f"api/clusters/{running}")).json()["state"] == "closed"
        assert (await api.get(f"api/clusters/{running}/logs")).status_code == 409


async def test_what_happens_beside_the_look_at_the_row_is_told(world, running, monkeypatch):
    own, scaled = world.parts.own, []

    def own_and_scale(cluster, owner):
        found = own(cluster, owner)
        if not scaled:
            scaled.append(cluster)
            world.parts.store.scale(cluster, 2, world.clock())
        return found

    async with world.api(world.owner) as api:
        seen = (await api.get(f"api/clusters/{running}")).json()["events"][-1]["at"]
        monkeypatch.setattr(world.parts, "own", own_and_scale)
        async with asyncio.timeout(NEWS_SECONDS / 2):
            found = (await api.get(f"api/clusters/{running}", params={"after": seen})).json()
    assert scaled and found["workers_wanted"] == 2


async def test_credentials(world, running):
    async with world.api(world.owner) as api:
        found = (await api.post(f"api/clusters/{running}/credentials", json=session_keys())).json()
    assert found["forwarder"] == {"host": "127.0.0.1", "port": 2222, "host_key": "ssh-ed25519 AAAA"}
    assert asyncssh.import_certificate(found["ssh_certificate"]).principals == [f"session:{running}"]
    certificate = x509.load_pem_x509_certificate(found["tls_certificate"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(found["tls_ca"].encode()))
    assert found["expires_at"] == int(world.get(running).expires_at)
    assert "PRIVATE" not in json.dumps(found)


async def test_logs(world, running):
    async with world.api(world.owner) as api:
        answer = await api.get(f"api/clusters/{running}/logs")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "==> scheduler <==\nlog of scheduler" in answer.text
        world.site.tunnel_down = True
        answer = await api.get(f"api/clusters/{running}/logs")
        assert answer.status_code == 503 and "running" in answer.json()["detail"]


async def test_the_hub_is_away(world):
    await world.hub.__aexit__()
    async with world.api(world.owner) as api:
        answer = await api.get("api/clusters")
    assert answer.status_code == 503 and "hub" in answer.json()["detail"]
    assert world.owner not in answer.text


async def test_a_revoked_token_works_for_seconds_only(world):
    clock = world.parts.hub._clock
    async with world.api(world.owner) as api:
        assert (await api.get("api/clusters")).status_code == 200
        del world.hub.tokens[world.owner]
        world.parts.hub._clock = lambda: clock() + 11
        assert (await api.get("api/clusters")).status_code == 401


async def test_bodies_are_bounded(world):
    async with world.api(world.owner) as api:
        assert (await api.post("api/clusters", content=b" " * (BODY_BYTES + 1))).status_code == 413

        async def chunks():
            for _ in range(10):
                yield b" " * 10_000

        assert (await api.post("api/clusters", content=chunks())).status_code == 413


async def test_nobody_takes_long_over_a_body(world, monkeypatch):
    """Nor keeps a connection by it: whoever does has not even said who they are."""
    monkeypatch.setattr("af_hub.controller.guard.BODY_SECONDS", 0.05)

    async def drip():
        yield b"{"
        await asyncio.sleep(30)

    async with world.api() as api:
        assert (await asyncio.wait_for(api.post("api/clusters", content=drip()), 10)).status_code == 408


async def test_a_cookie_is_no_key_to_the_api(world):
    async with world.api(cookie=f"af-controller={world.owner}") as api:
        assert (await api.get("api/clusters")).status_code == 401


async def test_get_changes_nothing(world, running):
    async with world.api(world.owner) as api:
        routes = (await api.get("api/openapi.json")).json()["paths"]
        assert {method for path in routes.values() for method in path} == {"get", "post", "patch", "delete"}
        assert (await api.get(f"clusters/{running}/close")).status_code in (404, 405)
    assert world.get(running).state == "running"


async def test_openapi_health_and_headers(world):
    async with world.api() as api:
        found = (await api.get("api/openapi.json")).json()
        assert f"{PREFIX}api/clusters" in found["paths"]
        answer = await api.get("api/health")
        assert answer.json() == {"status": "ok"}
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert (await api.get("nowhere")).status_code == 404


async def test_outside_of_the_prefix_there_is_nothing(world):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url=ORIGIN) as api:
        assert (await api.get("/api/clusters")).status_code == 404
