"""What the chart makes of values: whole, valid for three Kubernetes versions, and with no more rights than it needs."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CHART, LEAST, Manifests, Render
from kubernetes_schemas import mistakes

from af_hub.errors import Unavailable
from af_hub.testing.places import CONFIGURATION
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

VERSIONS = ("1.32.13", "1.33.6", "1.34.4")
PARTS = ("hub", "controller", "forwarder", "proxy", "routes")

EVERYTHING: dict[str, Any] = {
    "facility.files": {"condor-ca.pem": "-----BEGIN CERTIFICATE-----"},
    "facility.secret": "registries",
    "condor.readerToken.name": "pool",
    "images.pullSecrets": ["registry"],
    "keys.numbers": {"crypt": 2, "host-key": 1},
    "hub.config": {"AFSpawner": {"start_timeout": 300}, "JupyterHub": {"active_server_limit": 50}},
    "hub.extraConfig": "c.JupyterHub.log_level = 10\n",
    "hub.environment": {"HTTPS_PROXY": "http://proxy.example.org:3128"},
    "hub.nodeSelector": {"role": "facility"},
    "hub.tolerations": [{"key": "facility", "operator": "Exists"}],
    "forwarder.host": "forwarder.example.org",
    "forwarder.service.type": "LoadBalancer",
    "forwarder.service.annotations": {"example.org/pool": "public"},
    "proxy.replicas": 3,
    "proxy.trusted": ["10.244.0.0/16"],
    "proxy.service": {"type": "NodePort", "nodePort": 30080},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a/b": "c"}, "tlsSecret": "web"},
    "sessions.quota": {"requests.cpu": "200", "pods": 100},
    "networkPolicies.allowed": ["192.0.2.7/32"],
    "networkPolicies.from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
}
LITTLE: dict[str, Any] = {
    "publicURL": "http://hub.example.org/af/",
    "keys.create": False,
    "hub.persistence.enabled": False,
    "controller.persistence.existingClaim": "mine",
    "routes.persistence.enabled": False,
    "sessions.createNamespace": False,
    "networkPolicies.enabled": False,
    "keepOnUninstall": False,
}


def pods(manifests: Manifests) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod of each Deployment and Job, by the name of its part."""
    for (kind, name), manifest in manifests.items():
        if kind in ("Deployment", "Job"):
            yield name, manifest["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def deployed(manifests: Manifests) -> dict[str, Any]:
    """What a change of starts a part anew."""
    return {part: manifests["Deployment", part]["spec"]["template"] for part in PARTS}


def config_map(manifests: Manifests) -> dict[str, str]:
    [found] = [one for (kind, name), one in manifests.items() if kind == "ConfigMap" and name.startswith("hub-config-")]
    return found["data"]


def test_helm_finds_nothing_to_say_against_it(helm: Callable[..., Any]) -> None:
    done = helm("lint", "--strict", "--kube-version", "1.34.4", "--values", LEAST, CHART)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [{}, EVERYTHING, LITTLE], ids=["least", "everything", "little"])
def test_the_api_takes_it(render: Render, values: dict[str, Any], version: str) -> None:
    try:
        wrong = [one for manifest in render(values, version).values() for one in mistakes(version, manifest)]
    except Unavailable as error:
        unavailable(str(error))
    assert wrong == []


def test_the_validator_refuses_what_the_api_would(render: Render) -> None:
    hub = render()["Deployment", "hub"]
    hub["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    hub["spec"]["replicas"] = "one"
    try:
        assert len(mistakes("1.34.4", hub)) == 2
    except Unavailable as error:
        unavailable(str(error))


def test_all_of_it_as_before(render: Render, golden: Any) -> None:
    manifests = render()
    for (_, name), manifest in manifests.items():
        if name.startswith(("facility", "hub-config")):
            manifest["data"] = dict.fromkeys(manifest["data"], "…")
    text = yaml.safe_dump_all(manifests.values(), sort_keys=True, width=150)
    golden("chart.yaml", re.sub(r"\bhub-config-[0-9a-f]{8}\b", "hub-config-CHECKSUM", text))


def test_the_same_files_as_the_demos_byte_for_byte(render: Render) -> None:
    manifests = render()
    assert manifests["ConfigMap", "facility"]["data"] == {
        "facility.yaml": (CONFIGURATION / "facility.yaml").read_text()
    }
    files = config_map(manifests)
    assert files["jupyterhub_config.py"] == (CONFIGURATION / "jupyterhub_config.py").read_text()
    pages = {f"templates.{page.name}": page.read_text() for page in (CONFIGURATION / "templates").glob("*.html")}
    assert pages and {name: text for name, text in files.items() if name.startswith("templates.")} == pages
    [volume] = [one for one in dict(pods(manifests))["hub"]["volumes"] if one["name"] == "config"]
    assert {one["path"] for one in volume["configMap"]["items"]} >= {"jupyterhub_config.py", "templates/page.html"}


def test_a_policy_of_ones_own(render: Render) -> None:
    manifests = render({"facility.yaml": "version: 1\n"})
    for name in ("facility", "facility-to-come"):
        assert manifests["ConfigMap", name]["data"]["facility.yaml"] == "version: 1\n"


@pytest.mark.parametrize(
    "values, said",
    [
        pytest.param({"publicUrl": "https://x/"}, "additional properties 'publicUrl' not allowed", id="mistyped"),
        pytest.param({"hub.replicas": 2}, "additional properties 'replicas' not allowed", id="two hubs"),
        pytest.param({"publicURL": "https://hub.example.org"}, "/publicURL", id="no slash"),
        pytest.param({"publicURL": "hub.example.org/"}, "/publicURL", id="no scheme"),
        pytest.param({"iam.clientSecret": {"value": "s3cret"}}, "/iam/clientSecret", id="a secret as a value"),
        pytest.param({"keys.numbers": {"salt": 2}}, "/keys/numbers", id="no such key"),
        pytest.param({"keys.kept": 0}, "/keys/kept", id="no key kept"),
        pytest.param({"sessions.podSecurity": "none"}, "/sessions/podSecurity", id="no such level"),
        pytest.param({"hub.persistence.size": "2 GiB"}, "/hub/persistence/size", id="an amount with a space"),
        pytest.param({"facility.environment": {"NUMBER": 1}}, "/facility/environment", id="a number in an environment"),
        pytest.param({"facility.environment": {"A-B": "1"}}, "invalid propertyName 'A-B'", id="no name of a variable"),
        pytest.param(
            {"networkPolicies.allowed": ["cache.example.org"]}, "/networkPolicies/allowed", id="a name, no range"
        ),
        pytest.param({"sessions.namespace": "af-hub"}, "a namespace of their own", id="people beside the hub"),
        pytest.param({"ingress.enabled": True, "ingress.tlsSecret": "web"}, "set proxy.trusted", id="nobody trusted"),
        pytest.param(
            {"ingress.enabled": True, "proxy.trusted": ["10.0.0.0/8"]}, "ingress.tlsSecret", id="no certificate"
        ),
    ],
)
def test_values_that_are_refused(template: Callable[..., Any], values: dict[str, Any], said: str) -> None:
    done = template(values)
    assert done.returncode != 0 and said in done.stderr


def test_what_must_be_given_is_asked_for(helm: Callable[..., Any]) -> None:
    done = helm("template", "af-hub", CHART, "--kube-version", "1.34.4")
    assert done.returncode != 0
    assert {"publicURL", "clientID", "name"} <= set(re.findall(r"missing property '(\w+)'", done.stderr))


@pytest.mark.parametrize("values", [{}, EVERYTHING, LITTLE], ids=["least", "everything", "little"])
def test_every_container_is_restricted(render: Render, values: dict[str, Any]) -> None:
    for part, pod in pods(render(values)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == 1000, part
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, part
        assert not pod.get("hostNetwork") and pod["enableServiceLinks"] is False, part
        for one in containers(pod):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (part, one["name"])
            assert one["resources"]["requests"] and one["resources"]["limits"], (part, one["name"])
        assert all(set(one) & {"emptyDir", "configMap", "secret", "persistentVolumeClaim"} for one in pod["volumes"]), (
            part
        )


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["least", "everything"])
def test_secrets_are_files_of_a_secret_and_each_part_has_its_own_alone(render: Render, values: dict[str, Any]) -> None:
    manifests = render(values)
    assert not [name for kind, name in manifests if kind == "Secret"]
    mounted = {
        part: {item["key"] for one in pod["volumes"] if "secret" in one for item in one["secret"].get("items", [])}
        for part, pod in pods(manifests)
    }
    assert mounted == {
        "hub": {"crypt_key", "controller_token", "proxy_password", "store_password", "client-secret"},
        "controller": {"controller_token", "user_ca"} | ({"token"} if values else set()),
        "forwarder": {"forwarder_host_key", "user_ca.pub"},
        "proxy": set(),
        "routes": {"store.conf"},
        "keys": set(),
    }
    by_name = {
        (part, one["name"], each["name"])
        for part, pod in pods(manifests)
        for one in containers(pod)
        for each in one.get("env", [])
        if "valueFrom" in each
    }
    assert by_name == {
        ("controller", "controller", "AF_FORWARDER_HOST_KEY"),  # the public half
        ("proxy", "proxy", "TRAEFIK_PROVIDERS_REDIS_PASSWORD"),
    }


def test_least_rights(render: Render) -> None:
    manifests = render()
    rules = {name: one["rules"] for (kind, name), one in manifests.items() if kind == "Role"}
    assert not [kind for kind, _ in manifests if kind.startswith("ClusterRole")]
    assert rules["hub"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "create", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["list"]},
    ]
    assert manifests["Role", "hub"]["metadata"]["namespace"] == "af-sessions"
    one_secret = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["af-hub-keys"],
        "verbs": ["get", "patch"],
    }
    assert rules["keys"] == [one_secret, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    assert {name for name, pod in pods(manifests) if pod["automountServiceAccountToken"]} == {"hub", "keys"}
    accounts = [one for (kind, _), one in manifests.items() if kind == "ServiceAccount"]
    assert len(accounts) == 6 and not any(one["automountServiceAccountToken"] for one in accounts)


@pytest.mark.parametrize(
    "change, started_anew",
    [
        pytest.param({"facility.yaml": "version: 1\n"}, set(), id="the policy is read again where it lies"),
        pytest.param({"hub.config": {"AFSpawner": {"start_timeout": 5}}}, {"hub"}, id="a trait of the hub"),
        pytest.param({"hub.extraConfig": "c.JupyterHub.log_level = 10\n"}, {"hub"}, id="a line of Python"),
        pytest.param({"facility.environment.AF_XROOTD_CACHE": "root://x"}, {"hub", "controller"}, id="a variable"),
        pytest.param({"keys.numbers": {"crypt": 2}}, set(PARTS), id="new keys"),
        pytest.param({"proxy.replicas": 2, "sessions.quota": {"pods": 3}}, set(), id="what is of no pod"),
        pytest.param({"images.controller": "x:2"}, {"controller"}, id="an image"),
    ],
)
def test_an_upgrade_starts_anew_what_has_changed(
    render: Render, change: dict[str, Any], started_anew: set[str]
) -> None:
    before, after = deployed(render()), deployed(render(change))
    assert {part for part in PARTS if before[part] != after[part]} == started_anew


def test_a_new_version_of_the_chart_alone_starts_nothing_anew(
    render: Render, helm: Callable[..., Any], tmp_path: Path
) -> None:
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy)
    text = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(text.replace("0.1.0", "0.2.0"))
    done = helm("template", "af-hub", copy, "--namespace", "af-hub", "--kube-version", "1.34.4", "--values", LEAST)
    after = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout) if one}
    assert after["Deployment", "hub"]["metadata"]["labels"]["helm.sh/chart"] == "af-hub-0.2.0"
    assert deployed(after) == deployed(render())


def test_a_packed_chart_holds_the_files_it_links_to(helm: Callable[..., Any], render: Render, tmp_path: Path) -> None:
    assert helm("package", CHART, "--destination", tmp_path).returncode == 0
    done = helm(
        "template",
        "af-hub",
        tmp_path / "af-hub-0.1.0.tgz",
        "--namespace",
        "af-hub",
        "--kube-version",
        "1.34.4",
        "--values",
        LEAST,
    )
    packed = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout) if one}
    assert packed == render()


def test_who_may_speak_with_whom(render: Render) -> None:
    policies = {name: one["spec"] for (kind, name), one in render().items() if kind == "NetworkPolicy"}
    assert set(policies) == {*PARTS, "sessions"}
    sessions = policies["sessions"]
    assert sessions["podSelector"] == {} and sessions["policyTypes"] == ["Ingress", "Egress"]
    [incoming] = sessions["ingress"]
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in incoming["from"]] == ["hub", "proxy"]
    blocks = [one["ipBlock"] for rule in sessions["egress"] for one in rule["to"] if "ipBlock" in one]
    assert [one["cidr"] for one in blocks] == ["0.0.0.0/0", "::/0"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(blocks[0]["except"])
    for name in ("forwarder", "routes"):
        assert policies[name]["policyTypes"] == ["Ingress", "Egress"] and policies[name]["egress"] == []
    [to_store] = policies["routes"]["ingress"]
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in to_store["from"]] == ["hub", "proxy"]


def test_namespace_and_budget_and_path(render: Render) -> None:
    manifests = render()
    labels = manifests["Namespace", "af-sessions"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert ("PodDisruptionBudget", "proxy") not in manifests
    assert ("PodDisruptionBudget", "proxy") in render({"proxy.replicas": 2})
    elsewhere = render({"publicURL": "http://hub.example.org/af/"})
    [hub] = dict(pods(elsewhere))["hub"]["containers"]
    assert hub["readinessProbe"]["httpGet"]["path"] == "/af/hub/af/ready"
    [controller] = dict(pods(elsewhere))["controller"]["containers"]
    told = {one["name"]: one.get("value") for one in controller["env"]}
    assert told["AF_HUB_API_URL"] == "http://hub.af-hub.svc:8081/af/hub/api"
    assert controller["readinessProbe"]["httpGet"]["path"] == "/af/services/af-controller/api/health"
    assert told["AF_FORWARDER_HOST"] == "hub.example.org"
