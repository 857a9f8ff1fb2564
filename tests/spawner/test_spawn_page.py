"""The spawn page and what comes back from it, with a policy and an authenticator that only says who somebody is."""

import asyncio
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyterhub.spawner import SpawnException

from af_hub.errors import LoginRequired, Unavailable
from af_hub.iam.claims import Claims
from af_hub.policy.decide import Rights, decide
from af_hub.policy.load import read_policy
from af_hub.policy.model import Policy
from af_hub.spawner import LocalAFSpawner
from af_hub.tokens.lifetime import AccessToken

POLICY = """
version: 1
facility: {name: Test, contact: help@af-hub.test}
issuers: [{issuer: "https://iam.af-hub.test/"}]
rules:
  - {name: everybody, groups: [/cms], login: true, images: [base], sizes: [small]}
  - {name: makers, groups: [/own], login: true, own_images: ['reg\\.test/cms/.*'], sizes: [gpu]}
  - {name: CMS, groups: [/cms/itcms], images: [analysis], sizes: [huge], sites: [T2_A],
     condor: {account: "u-{username}", accounting_group: cms}}
images:
  base: {title: "Base <b>&amp;", description: "with \\"quotes\\" <script>alert(1)</script>", environment: /images/base}
  analysis: {title: Analysis, environment: /images/analysis}
sizes:
  small: {title: "1 core, 1 MiB", cpus: 0.001, memory: 1 MiB}
  gpu: {title: One GPU, cpus: 0.001, memory: 1 MiB, resources: {nvidia.com/gpu: 1}}
  huge: {title: Huge, cpus: 9000, memory: 900 TiB}
sites: {T2_A: {title: A, pool: p}}
pools: {p: {collector: "cm:9618", schedd: s, audience: a, ca_file: /ca.pem}}
caches: {near: {url: "root://near:1094"}, far: {url: "root://far:1094"}}
"""


class PodLike(LocalAFSpawner):
    """A spawner whose sessions can have any container image."""

    takes_own_images = True


class KnownPerson:
    """An authenticator for one person, whose groups may change; no groups, no login."""

    def __init__(self, *groups: str) -> None:
        self.groups: tuple[str, ...] | None = groups
        self.token: AccessToken | None = None
        self.policy: Policy = read_policy(POLICY, "facility.yaml", {})

    async def rights_of(self, user: object) -> tuple[Rights, Policy]:
        if self.groups is None:
            raise LoginRequired("Your login has ended; log in again.")
        claims = Claims("https://iam.af-hub.test/", "1", "ada", self.groups)
        return decide(self.policy, claims, time.time()), self.policy

    async def session_token(self, user: object) -> AccessToken:
        if self.token is None:
            raise Unavailable("the IAM does not answer")
        return self.token


class Radios(HTMLParser):
    """Radio buttons of a page: (name, value, checked), and whether there is any other input, script or link."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.radios: list[tuple[str, str, bool]] = []
        self.others: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found["type"] == "radio":
            self.radios.append((found["name"] or "", found["value"] or "", "checked" in found))
        elif tag in ("input", "select", "textarea", "script", "a", "b", "img"):
            self.others.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def spawner_of(*groups: str, kind: type[LocalAFSpawner] = LocalAFSpawner, **traits: object) -> LocalAFSpawner:
    spawner = kind(**traits)
    spawner.user = SimpleNamespace(name="ada")
    spawner.authenticator = KnownPerson(*groups)
    return spawner


async def page_of(spawner: LocalAFSpawner) -> Radios:
    return Radios(await spawner.get_options_form())


async def test_page_offers_what_the_groups_give() -> None:
    page = await page_of(spawner_of("/cms"))
    assert page.radios == [("image", "base", True), ("size", "small", True)]
    assert "Free on this machine now" in page.text


async def test_page_preselects_what_was_chosen_last_time() -> None:
    spawner = spawner_of("/cms", "/cms/itcms")
    spawner.user_options = {"image": "analysis", "size": "huge"}
    assert [radio for radio in (await page_of(spawner)).radios if radio[2]] == [
        ("image", "analysis", True),
        ("size", "huge", True),
    ]


async def test_page_forgets_what_was_chosen_when_it_is_withdrawn() -> None:
    spawner = spawner_of("/cms")
    spawner.user_options = {"image": "analysis", "size": "huge", "junk": [1]}
    assert (await page_of(spawner)).radios == [("image", "base", True), ("size", "small", True)]


async def test_page_says_what_is_more_than_free() -> None:
    page = await page_of(spawner_of("/cms", "/cms/itcms"))
    assert page.text.count("Not enough cores and memory free now") == 1


async def test_words_of_the_policy_are_text_not_html() -> None:
    page = await page_of(spawner_of("/cms"))
    assert page.others == []
    assert "<script>alert(1)</script>" in page.text
    assert "Base <b>&amp;" in page.text


async def test_every_choice_has_its_words_in_its_label() -> None:
    page = await spawner_of("/cms").get_options_form()
    assert page.count("<label") == page.count('type="radio"') == page.count("</label>")
    assert page.count("<fieldset") == page.count("<legend") == 2


@pytest.mark.parametrize(
    "groups, words",
    [
        pytest.param(("/guests",), "none of the groups", id="not let in"),
        pytest.param(None, "log in again", id="login ended"),
    ],
)
async def test_page_of_somebody_without_a_choice_says_why(groups: tuple[str, ...] | None, words: str) -> None:
    spawner = spawner_of()
    spawner.authenticator.groups = groups
    page = await page_of(spawner)
    assert page.radios == []
    assert words in page.text


async def test_form_becomes_the_choice() -> None:
    spawner = spawner_of("/cms", "/cms/itcms")
    assert await spawner.run_options_from_form({"image": ["analysis"], "size": ["small"]}) == {
        "image": "analysis",
        "size": "small",
    }


@pytest.mark.parametrize(
    "form, reason, status",
    [
        pytest.param({"image": ["analysis"], "size": ["small"]}, "image", 403, id="image of others"),
        pytest.param({"image": ["base"], "size": ["huge"]}, "size", 403, id="size of others"),
        pytest.param({"image": ["base", "analysis"]}, "form", 400, id="two images"),
        pytest.param({"image": ["base"], "ip": ["0.0.0.0"]}, "form", 403, id="a trait"),
    ],
)
async def test_form_is_refused_with_a_sentence(form: dict[str, list[str]], reason: str, status: int) -> None:
    with pytest.raises(SpawnException) as refusal:
        await spawner_of("/cms").run_options_from_form(form)
    assert (refusal.value.reason, refusal.value.status_code) == (reason, status)
    assert refusal.value.message.endswith(".")


def test_link_never_chooses() -> None:
    with pytest.raises(SpawnException) as refusal:
        spawner_of("/cms").options_from_query({"image": ["base"], "size": ["small"]})
    assert refusal.value.reason == "link"


@pytest.mark.parametrize(
    "groups, options, reason",
    [
        pytest.param(("/cms",), {"image": "analysis"}, "image", id="API: image of others"),
        pytest.param(("/cms",), {"image": "base", "environment": "/"}, "form", id="API: a trait"),
        pytest.param(("/guests",), {"image": "base"}, "rights", id="saved, and left the groups since"),
        pytest.param(None, {}, "login", id="login ended"),
        pytest.param(("/cms",), {}, "facility", id="image whose folder is missing"),
    ],
)
async def test_start_checks_last(tmp_path: Path, groups: tuple[str, ...] | None, options: object, reason: str) -> None:
    spawner = spawner_of(state_dir=str(tmp_path / "state"))
    spawner.authenticator.groups = groups
    spawner.user_options = options
    with pytest.raises(SpawnException) as refusal:
        await spawner.start()
    assert refusal.value.reason == reason
    assert not (tmp_path / "state").exists(), "nothing may be made before the check"


@pytest.mark.parametrize(
    "groups, cache, environment",
    [
        pytest.param(("/cms",), "", {"XROOT_PROXY": "root://near:1094//", "AF_SITES": ""}, id="no pool"),
        pytest.param(
            ("/cms", "/cms/itcms"),
            "far",
            {"XROOT_PROXY": "root://far:1094//", "AF_SITES": "T2_A", "_condor_SCITOKENS_FILE": "/run/x/pool-token"},
            id="pool, other cache",
        ),
    ],
)
async def test_fragment_is_that_of_the_person(groups: tuple[str, ...], cache: str, environment: dict[str, str]) -> None:
    spawner = spawner_of(*groups, cache=cache, controller_url="http://c/", datasets={"d": ["root://o//f"]})
    options, rights, policy = await spawner._checked({})
    fragment = spawner.describe(options, rights, policy, "/run/x")
    assert {**fragment.environment, **environment} == fragment.environment
    assert ("_condor_COLLECTOR_HOST" in fragment.environment) == ("/cms/itcms" in groups)
    assert fragment.environment["AF_DATASETS"] == '{"d": ["root://o//f"]}'


async def test_unknown_cache_names_the_setting() -> None:
    spawner = spawner_of("/cms", cache="nearest", controller_url="http://c/")
    with pytest.raises(SpawnException, match="facility") as refusal:
        spawner.describe(*(await spawner._checked({})), "/run/x")
    assert "LocalAFSpawner.cache is 'nearest'; facility.yaml has near, far." in refusal.value.message


async def test_the_token_is_left_where_the_session_looks_when_it_is_at_hand(tmp_path: Path) -> None:
    spawner = spawner_of("/cms")
    assert not await spawner._leave_token(tmp_path) and not list(tmp_path.iterdir())
    spawner.authenticator.token = AccessToken("a.b.c", 0.0, 60.0)
    assert await spawner._leave_token(tmp_path)
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_text(), file.stat().st_mode & 0o777) == ("token", "a.b.c", 0o600)


async def test_nobody_waits_long_for_a_token_that_is_not_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = spawner_of("/cms")
    monkeypatch.setattr("af_hub.spawning.local.AT_HAND_SECONDS", 0.01)
    answer: asyncio.Future[AccessToken] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(spawner.authenticator, "session_token", lambda _user: answer)
    assert not await spawner._leave_token(tmp_path)
    assert not answer.cancelled()


def typed_in(page: str) -> str:
    """What stands in the text field."""
    return page.partition('name="own_image"')[2].partition('value="')[2].partition('"')[0]


async def test_another_image_is_offered_to_those_who_may_type_one() -> None:
    assert "Another image" not in await spawner_of("/cms", kind=PodLike).get_options_form()
    assert "Another image" not in await spawner_of("/cms", "/own").get_options_form(), "no pods"
    page = await spawner_of("/cms", "/own", kind=PodLike).get_options_form()
    assert (
        "You may type: reg.test/cms/… (what stands for “…” is yours, with a tag or a digest at the end)." in page
        and typed_in(page) == ""
    )
    found = Radios(page)
    assert ("image", ":own", False) in found.radios and found.others == ["input"]
    assert page.count("<label") == page.count('type="radio"') + 1 == page.count("</label>")
    assert 'for="af-typed"' in page and 'aria-describedby="af-patterns"' in page


async def test_whoever_has_no_image_of_the_list_types_one() -> None:
    spawner = spawner_of("/own", kind=PodLike)
    assert (await page_of(spawner)).radios == [("image", ":own", True), ("size", "gpu", False)]
    assert await spawner.run_options_from_form(
        {"image": [":own"], "own_image": ["reg.test/cms/a"], "size": ["gpu"]}
    ) == {
        "image": "reg.test/cms/a:latest",
        "size": "gpu",
    }


async def test_what_was_typed_last_time_is_there_again_until_it_is_withdrawn() -> None:
    spawner = spawner_of("/cms", "/own", kind=PodLike)
    spawner.user_options = {"image": "reg.test/cms/a:1", "size": "small"}
    page = await spawner.get_options_form()
    assert typed_in(page) == "reg.test/cms/a:1" and ("image", ":own", True) in Radios(page).radios
    spawner.authenticator.groups = ("/cms",)
    page = await spawner.get_options_form()
    assert "reg.test" not in page and ("image", "base", True) in Radios(page).radios


async def test_what_is_refused_stays_in_the_form_once() -> None:
    spawner = spawner_of("/cms", "/own", kind=PodLike)
    form = {"image": [":own"], "own_image": ["evil.test/a"], "size": ["gpu"], "_xsrf": ["x"]}
    with pytest.raises(SpawnException) as refusal:
        await spawner.run_options_from_form(form)
    assert refusal.value.reason == "image-not-allowed" and refusal.value.status_code == 403
    page = await spawner.get_options_form()
    assert typed_in(page) == "evil.test/a"
    assert {("image", ":own", True), ("size", "gpu", True)} < set(Radios(page).radios)
    assert "evil.test" not in await spawner.get_options_form()


async def test_sizes_name_their_gpus() -> None:
    page = await page_of(spawner_of("/cms", "/own", kind=PodLike))
    assert "0.001 cores, 1 MiB memory, 1 NVIDIA GPU" in page.text
    assert "it starts, and shares what this machine has" in (await page_of(spawner_of("/own", "/cms"))).text
