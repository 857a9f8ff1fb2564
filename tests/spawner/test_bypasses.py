"""Ways round the choice: each is refused by AF Hub's spawner with a sentence, and each works on plain KubeSpawner 7.1.0."""

import json
from collections.abc import Iterator

import pytest
from two_hubs import GOOD, LAB, Person, Request, our_hub, plain_hub, running

from af_hub.client.hub import Hub
from af_hub.testing.iam import DemoIAM
from af_hub.testing.process import comes_true

pytestmark = pytest.mark.real

EVIL = "evil.test/miner:1"


@pytest.fixture(scope="module")
def plain(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with plain_hub(iam, tmp_path_factory.mktemp("plain")) as person:
        yield person


@pytest.fixture(scope="module")
def ours(iam: DemoIAM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with our_hub(iam, tmp_path_factory.mktemp("ours")) as person:
        yield person


OPTION = "image--unlisted-choice"
FORM = f"profile-option-d--{OPTION}"
ROWS = [
    pytest.param(
        Request("api", {OPTION: EVIL}),
        EVIL,
        [Request("api", {"image": EVIL}), Request("api", {"image": EVIL, "size": "small"})],
        "image-not-allowed",
        id="an image by REST without a profile",
    ),
    pytest.param(
        Request("api", {"profile": None, OPTION: EVIL}),
        EVIL,
        [Request("api", {"size": "small", "image": EVIL}), Request("form", {"image": EVIL, "size": "small"})],
        "image-not-allowed",
        id="an unlisted choice of the default profile",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: "good.test/cms-of-others/lab:1"}),
        "good.test/cms-of-others/lab:1",
        [
            Request("api", {"image": "good.test/cms-of-others/lab:1"}),
            Request("form", {"image": ":own", "own_image": "good.test/cms-of-others/lab:1", "size": "small"}),
        ],
        "image-not-allowed",
        id="a folder that begins like another",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: "goodxtest/cms/miner:1"}),
        "goodxtest/cms/miner:1",
        [Request("api", {"image": "goodxtest/cms/miner:1"}), Request("api", {"image": "good.test.evil.test/cms/a:1"})],
        "image-not-allowed",
        id="a dot that is any character",
    ),
    pytest.param(
        Request("api", {"profile": "d", OPTION: f"{GOOD}\n"}),
        f"{GOOD}\n",
        [
            Request("api", {"image": f"{GOOD}\n"}),
            Request("api", {"image": f"{EVIL}\n{GOOD}"}),
            Request("api", {"image": f"\n{GOOD}"}),
        ],
        "image-name",
        id="a line break",
    ),
    pytest.param(
        Request("api", {OPTION: [EVIL]}),
        f"['{EVIL}']",
        [Request("api", {"image": wrong}) for wrong in ([EVIL], {"image": EVIL}, 7, True, None)]
        + [Request("api", [EVIL]), Request("api", {"image": GOOD, "size": ["small"]})],
        "form",
        id="another type than text",
    ),
    pytest.param(
        Request("link", {"profile": "d", FORM: "good.test/cms-of-others/lab:1"}),
        "good.test/cms-of-others/lab:1",
        [
            Request("link", {"image": GOOD, "size": "small"}),
            Request("link", {"opt-image": GOOD}),
            Request("link", {"image": ":own", "own_image": GOOD}),
            Request("link", {"image": "python-base"}),
        ],
        "link",
        id="a link on another site",
    ),
]
SAYS = {
    "image-not-allowed": "is not one of those that you may type",
    "image-name": "is no name of an image",
    "form": "must be",
    "link": "A link does not choose for you",
}


@pytest.mark.parametrize("request_, image, others, reason", ROWS)
def test_it_works_on_plain_kubespawner(
    plain: Person, request_: Request, image: str, others: list[Request], reason: str
) -> None:
    before = len(plain.kube.asked)
    plain.send(request_)
    assert comes_true(lambda: len(plain.kube.asked) > before, 20), "no pod was asked for"
    assert plain.kube.images_asked()[before] == image
    plain.stop()


@pytest.mark.parametrize("request_, image, others, reason", ROWS)
def test_it_is_refused_here(ours: Person, request_: Request, image: str, others: list[Request], reason: str) -> None:
    """The same request, and what it would be in our form; nothing is asked of Kubernetes or of a registry."""
    asked = len(ours.kube.asked), len(ours.registry.asked)
    for one in [request_, *others]:
        answer = ours.send(one)
        said = json.dumps(answer.json()) if one.kind in ("api", "saved") else answer.text
        assert answer.status_code in (400, 403), (one, answer.status_code, said)
        if one is not request_:
            assert SAYS[reason] in said or "is no object" in said, (one, said)
        assert "Traceback" not in said
        assert one.kind != "form" or 'value="good.test/cms-of-others/lab:1"' in said or one.body.get("image") != ":own"
    assert (len(ours.kube.asked), len(ours.registry.asked)) == asked


def test_saved_options_outlive_the_policy_on_plain_kubespawner_only(plain: Person, ours: Person) -> None:
    """What was allowed once is saved; when the policy has withdrawn it, a start without a choice must not bring it back."""
    first = {plain: Request("api", {OPTION: GOOD}), ours: Request("api", {"image": GOOD, "size": "small"})}
    for person in (plain, ours):
        assert person.send(first[person]).status_code in (201, 202)
        assert comes_true(lambda person=person: running(person), 30)
        person.stop()
        person.allow(False)
    try:
        assert ours.kube.images_asked()[-1] == f"good.test/cms/lab@{LAB.digest}", "what was proven is what starts"
        assert comes_true(lambda: not may_type(ours), 10), "the policy is not read again"
        asked = len(ours.kube.asked), len(plain.kube.asked)
        refused = ours.send(Request("saved"))
        assert refused.status_code == 403 and f"There is no image '{GOOD}'" in refused.json()["message"]
        assert len(ours.kube.asked) == asked[0]
        plain.send(Request("saved"))
        assert comes_true(lambda: len(plain.kube.asked) > asked[1], 20)
        assert plain.kube.images_asked()[asked[1] :] == [GOOD]
        plain.stop()
    finally:
        for person in (plain, ours):
            person.allow(True)
        assert comes_true(lambda: may_type(ours), 10)


def test_what_the_hub_tokens_of_a_session_open(ours: Person) -> None:
    """A program in a pod has the server's: it is told who it is of and what that person may do, and gets no token of theirs."""
    assert ours.send(Request("api", {"image": GOOD, "size": "small"})).status_code in (201, 202)
    assert comes_true(lambda: running(ours), 30)
    secret = ours.kube.objects("secrets")[-1]["stringData"]
    of_server, of_agent = ours.hub.api(secret["hub-token"]), ours.hub.api(json.loads(secret["agent.json"])["hub_token"])

    me = Hub(ours.hub.url, secret["hub-token"]).me()
    assert me["username"] == ours.username and "/cms/itcms" in me["groups"] and "T2_A" in me["rights"]["sites"]
    for one, status in ((of_server, 403), (of_agent, 200)):
        assert one.get("/af/token").status_code == one.get("/af/token?purpose=storage").status_code == status
    assert of_server.post("/af/pool", json={}).status_code == 403
    asked = {"scopes": ["custom:af-token:read"]}
    assert of_server.post(f"/users/{ours.username}/tokens", json=asked).status_code in (403, 404)
    ours.stop()
    assert comes_true(lambda: of_server.get("/af/me").status_code == 403, 20), "it does not end with the session"


def may_type(person: Person) -> bool:
    return "own_image" in person.browser.get("/hub/spawn").text
