"""Tokens for plain batch jobs, in the controller: to whom, when, and what trouble does."""

import pytest
from world import FACILITY

from af_hub.condor.jobtoken import Owner
from af_hub.controller.batch import PATIENCE_SECONDS, RECENT_SECONDS
from af_hub.iam.claims import Claims, own_subject
from af_hub.policy.decide import decide
from af_hub.policy.jobs import is_shared, may_be, token_pools
from af_hub.policy.load import read_policy

ISSUER = "https://iam.af-hub.test/"
ANALYST = Owner("cms-cms-analyst", ISSUER, "subject-cms-analyst")
COLLEAGUE = Owner("cms-cms-colleague", ISSUER, "subject-cms-colleague")


@pytest.fixture
def batch(world):
    world.hub.clock = world.clock
    numbers = iter(range(1, 1000))
    world.hub.mint_storage = lambda name: f"storage-{next(numbers)}-of-{name}"
    return world.parts.batch


async def test_whose_jobs_ask_gets_a_fresh_token_all_the_time(world, batch):
    """Eight hours with tokens of an hour: what lies at the access point is always good for a while."""
    world.site.wanting["main"] = {ANALYST}
    await batch.round()
    assert world.site.brought == [("main", "condor-of-cms-analyst", "storage-1-of-cms-analyst")]
    for _ in range(8 * 6):
        world.clock.offset += 600
        await batch.round()
        _, ends = world.hub.storage_token("cms-analyst")
        assert batch._brought["cms-analyst", "main"].expires_at - world.clock() > 600
        assert batch._brought["cms-analyst", "main"].expires_at <= ends
    assert 12 <= len(world.site.brought) <= 30
    assert len({token for _, _, token in world.site.brought}) >= 12


async def test_nobody_who_is_not_asked_for_gets_one(world, batch):
    forged = Owner("cms-cms-analyst", ISSUER, "subject-cms-colleague")
    foreign = Owner("cms-cms-analyst", "https://iam.elsewhere/", "subject-cms-analyst")
    world.site.wanting["main"] = {forged, foreign, Owner("nobody", ISSUER, "x"), Owner("cms-stranger", ISSUER, "y")}
    await batch.round()
    world.hub.people["cms-analyst"] = ["/guests"]
    world.site.wanting["main"] = {ANALYST}
    await batch.round()
    assert world.site.brought == [] and world.hub.storage_tokens_given == []


async def test_jobs_that_were_submitted_with_a_token_of_the_hub_itself(world, batch):
    signing = FACILITY.replace("contact:", 'hub: "https://hub.test/", contact:') + "tokens: {condor: {by: hub}}\n"
    (world.folder / "facility.yaml").write_text(signing)
    await world.restart()
    own = "https://hub.test/hub/api/af/issuer"
    forged = Owner("cms-cms-analyst", own, own_subject(ISSUER, "subject-cms-colleague"))
    world.site.wanting["main"] = {Owner("cms-cms-analyst", own, own_subject(ISSUER, "subject-cms-analyst")), forged}
    await world.parts.batch.round()
    assert [(pool, token) for pool, token, _ in world.site.brought] == [("main", "condor-of-cms-analyst")]


async def test_pool_that_keeps_no_tokens_gets_none(world, batch):
    (world.folder / "facility.yaml").write_text(FACILITY.replace(", job_tokens: true", ""))
    await world.restart()
    batch = world.parts.batch
    world.site.wanting["main"] = {ANALYST}
    await batch.round()
    assert world.site.brought == []


@pytest.mark.parametrize("trouble", ["login over", "IAM away", "credd down", "pool away"])
async def test_trouble_with_one_hinders_no_other_and_passes(world, batch, trouble):
    world.site.wanting["main"] = {ANALYST, COLLEAGUE}
    if trouble == "login over":
        world.hub.expired.add("cms-analyst")
    world.hub.away = trouble == "IAM away"
    world.site.credd_down = trouble == "credd down"
    world.site.unreachable = trouble == "pool away"
    await batch.round()
    assert {token for _, token, _ in world.site.brought} == (
        {"condor-of-cms-colleague"} if trouble == "login over" else set()
    )
    world.hub.expired.clear()
    world.hub.away = world.site.credd_down = world.site.unreachable = False
    world.clock.offset += PATIENCE_SECONDS + 1
    await batch.round()
    assert {token for _, token, _ in world.site.brought} == {"condor-of-cms-analyst", "condor-of-cms-colleague"}


async def test_who_submits_has_theirs_brought_at_once(world, batch):
    async with world.api(world.owner) as api:
        for _ in range(2):
            answer = await api.post("api/job-tokens", json={})
            assert answer.status_code == 200, answer.text
        assert answer.json() == {"pools": {"main": pytest.approx(world.clock() + 3600, abs=5)}}
        assert len(world.site.brought) == 1, "once is enough for a while"
        world.clock.offset += RECENT_SECONDS + 1
        await api.post("api/job-tokens", json={"pool": "main"})
        assert len(world.site.brought) == 2, "the access point may have lost it"
        assert (await api.post("api/job-tokens", json={"pool": "other"})).status_code == 403
        assert (await api.post("api/job-tokens", json={"username": "cms-colleague"})).status_code == 422
        assert "storage-" not in answer.text
        world.site.credd_down, world.clock.offset = True, 1000.0
        assert (await api.post("api/job-tokens", json={})).status_code == 503


@pytest.mark.parametrize(
    "user, scopes, status",
    [("guest", None, 403), ("out", None, 403), ("cms-analyst", ["read:users!user=cms-analyst"], 403), ("", None, 401)],
)
async def test_who_has_none_brought(world, batch, user, scopes, status):
    token = world.hub.token_of(user, *([scopes] if scopes else [])) if user else None
    async with world.api(token) as api:
        answer = await api.post("api/job-tokens", json={})
    assert answer.status_code == status and world.site.brought == []


def test_accounts_that_several_share_get_no_token():
    shared = FACILITY.replace('account: "cms-{username}"', "account: cms-prod, shared_account: true")
    both = FACILITY.replace(
        "rules:\n",
        "rules:\n  - {name: p, groups: [/p], condor: {account: cms-bob, accounting_group: p, shared_account: true}}\n",
    )
    for text, username, pools in (
        (FACILITY, "ada", ("main",)),
        (shared, "ada", ()),
        (both, "bob", ()),
        (both, "ada", ("main",)),
    ):
        policy = read_policy(text.encode(), "facility.yaml", {})
        rights = decide(policy, Claims(ISSUER, "s", username, ("/cms/itcms",), "", ""), 0.0)
        assert token_pools(policy, rights, username) == pools
    assert is_shared(policy, "cms-bob", "ada") and may_be(policy, "cms-bob") == ["bob"]
    assert may_be(policy, "cms-") == may_be(policy, "atlas-bob") == []
