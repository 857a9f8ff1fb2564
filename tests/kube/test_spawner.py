"""The spawner on a real cluster, behind a real hub: one session from its start to its end, what the hub's Role allows, and what fails."""

import json

import pytest
from hub_alone import NAMESPACE, Analyst

from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.process import comes_true

pytestmark = [pytest.mark.kube, pytest.mark.more, pytest.mark.timeout(300, func_only=True)]

WHAT_IT_HAS = """
import json, os, stat
env = dict(os.environ)
about = os.stat(env["BEARER_TOKEN_FILE"])
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "home": os.getcwd(), "HOME": env["HOME"],
    "token": [stat.S_IMODE(about.st_mode), about.st_uid], "parts": open(env["BEARER_TOKEN_FILE"]).read().count("."),
    "config": os.path.exists("/etc/af-agent"), "account": os.path.exists("/var/run/secrets/kubernetes.io"),
    "caps": status["CapBnd"].strip(), "privileges": status["NoNewPrivs"].strip(),
    "services": [name for name in env if name.endswith("_SERVICE_HOST") and name != "KUBERNETES_SERVICE_HOST"],
    "hub_token": env["JUPYTERHUB_API_TOKEN"], "home_is_mine": os.access(env["HOME"], os.W_OK),
}))
"""


def test_a_session_from_start_to_end(analyst: Analyst) -> None:
    before = analyst.api.get("/users/cms-analyst/tokens").json()["api_tokens"]
    events = analyst.start(image="python-analysis", size="small")
    assert analyst.browser.get("/user/cms-analyst/lab", timeout=60).status_code == 200
    found = json.loads(analyst.run(WHAT_IT_HAS))
    assert (found["uid"], found["gid"], found["token"]) == (1000, 100, [0o600, 1000])
    assert found["home"] == found["HOME"] == "/home/cms-analyst" and found["home_is_mine"]
    assert found["parts"] == 2, "a JWT"
    assert not found["config"] and not found["account"] and not found["services"]
    assert int(found["caps"], 16) == 0 and found["privileges"] == "1"
    assert [event["message"] for event in events if "message" in event][-1]
    (pod,), (secret,) = analyst.names("pods"), analyst.names("secrets")
    shown = json.dumps(analyst.get("pod", pod))
    assert found["hub_token"] not in shown
    scopes = analyst.hub.api(found["hub_token"]).get("/user").json()["scopes"]
    assert [scope for scope in scopes if scope.startswith("custom:")] == ["custom:af-me:read"], "the agent has more"
    assert analyst.hub.api(found["hub_token"]).get("/af/token").status_code == 403
    tokens = analyst.api.get("/users/cms-analyst/tokens").json()["api_tokens"]
    assert [token["note"] for token in tokens if "agent" in token["note"]] == ["Session agent at /user/cms-analyst/"]
    analyst.stop()
    assert analyst.names("pods") == []
    assert comes_true(lambda: analyst.names("secrets") == [], 60), f"{secret} goes with its pod"
    tokens = analyst.api.get("/users/cms-analyst/tokens").json()["api_tokens"]
    assert {token["id"] for token in tokens} <= {token["id"] for token in before}


@pytest.mark.parametrize(
    "image, reason",
    [
        pytest.param("missing", "The image Missing is not in its registry.", id="no such image"),
        pytest.param("no-server", "Your session ended (exit status 2). It said last: ", id="no single-user server"),
    ],
)
def test_what_cannot_come_up_ends_with_a_sentence(analyst: Analyst, image: str, reason: str) -> None:
    assert reason in analyst.refused(image=image, size="small")
    assert analyst.names("pods") == []
    assert comes_true(lambda: analyst.names("secrets") == [], 60, pause=0.3)


def test_a_full_quota_is_a_sentence(analyst: Analyst, kube: KubeCluster) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}}
    kube.kubectl("create", "-n", NAMESPACE, "-f", "-", text=json.dumps(quota))
    try:
        assert comes_true(lambda: "hard" in analyst.get("resourcequota", "full").get("status", {}), 30, pause=0.3)
        assert "Free for sessions now: 0 of 0 sessions." in analyst.browser.get("/hub/spawn").text
        assert "There is no room for your session now" in analyst.refused(image="python-analysis", size="small")
    finally:
        kube.kubectl("delete", "resourcequota", "full", "-n", NAMESPACE)


def test_named_servers_have_agents_and_tokens_of_their_own(analyst: Analyst) -> None:
    analyst.start("one", image="python-analysis", size="small")
    analyst.start("two", image="python-analysis", size="small")
    pods = [f"jupyter-{analyst.username}--{name}" for name in ("one", "two")]
    assert analyst.names("pods") == pods and len(analyst.names("secrets")) == 2
    found = [json.loads(analyst.run(WHAT_IT_HAS, pod)) for pod in pods]
    assert found[0]["hub_token"] != found[1]["hub_token"] and {one["HOME"] for one in found} == {"/home/cms-analyst"}
    health = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/af/agent.sock'); print('yes')"
    assert [analyst.run(health, pod).strip() for pod in pods] == ["yes", "yes"]
    analyst.stop("one")
    assert analyst.names("pods") == pods[1:]
    assert comes_true(lambda: len(analyst.names("secrets")) == 1, 60, pause=0.3)


def test_the_next_hub_adopts_and_ends_it(analyst: Analyst) -> None:
    analyst.start(image="python-analysis", size="small")
    analyst.hub.restart_hub(killed=True)
    assert comes_true(lambda: analyst.servers().get("", {}).get("ready", False), 60, pause=0.3)
    assert analyst.browser.get("/user/cms-analyst/lab", timeout=60).status_code == 200
    analyst.stop()
    assert analyst.names("pods") == []
    tokens = analyst.api.get("/users/cms-analyst/tokens").json()["api_tokens"]
    assert not [token["note"] for token in tokens if "agent" in token["note"]]


def test_without_the_verb_delete_nothing_starts(analyst: Analyst, kube: KubeCluster) -> None:
    """KubeSpawner would start it, and could not end it."""
    roles = [one for one in analyst.get("roles")["items"] if any("pods" in rule["resources"] for rule in one["rules"])]
    (role,) = [
        {key: one[key] for key in ("apiVersion", "kind", "rules")} | {"metadata": {"name": one["metadata"]["name"]}}
        for one in roles
    ]
    less = json.loads(json.dumps(role).replace('"delete"', '"deletecollection"'))
    kube.kubectl("apply", "-n", NAMESPACE, "-f", "-", text=json.dumps(less))
    try:
        analyst.hub.restart_hub()
        log = analyst.hub.plan.folder / "hub.log"
        assert comes_true(lambda: "`delete` on `pods`, else sessions that people stop run on" in log.read_text(), 30)
        assert "The hub lacks rights in the cluster" in analyst.refused(image="python-analysis", size="small")
        assert analyst.names("pods") == []
    finally:
        kube.kubectl("apply", "-n", NAMESPACE, "-f", "-", text=json.dumps(role))
