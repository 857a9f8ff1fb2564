"""What a demo with sessions as pods tells its hub, and what its hub may show to a cluster."""

import json

from traitlets.config import Config

from af_hub.demo.ground import describe_homes, with_token
from af_hub.demo.pods import PodSessions


def test_the_hub_reads_what_it_is_told(tmp_path):
    pods = PodSessions(
        tmp_path / "kubeconfig", "http://10.88.0.1:5000", more="c.JupyterHub.allow_named_servers = True\n"
    )
    pods = PodSessions.read(pods.write(tmp_path / "pods.json"))
    c = Config()
    exec(pods.configuration("http://10.88.0.1:8500"), {"c": c})
    assert c.AFSpawner == {
        "namespace": "af-sessions",
        "guaranteed_share": 0.1,
        "controller_url": "http://10.88.0.1:8500/services/af-controller/",
        "extra_pod_config": {
            "hostAliases": [{"ip": "10.88.0.1", "hostnames": ["facility.af-hub.test", "facility"]}],
        },
    }
    assert c.JupyterHub.allow_named_servers
    assert pods.environment()["KUBECONFIG"] == str(tmp_path / "kubeconfig")


def test_the_hubs_kubeconfig_holds_its_own_token_only():
    administrators = {
        "clusters": [{"name": "af-kube", "cluster": {"server": "https://10.88.0.1:6443"}}, {"name": "another"}],
        "users": [{"name": "admin", "user": {"token": "all-rights"}}],
    }
    made = with_token(administrators, "few-rights", "af-sessions")
    assert "all-rights" not in json.dumps(made)
    assert made["users"] == [{"name": "hub", "user": {"token": "few-rights"}}]
    assert made["contexts"][0]["context"] == {"cluster": "af-kube", "user": "hub", "namespace": "af-sessions"}
    assert len(made["clusters"]) == 1


def test_homes_wait_for_claims_that_name_no_class(tmp_path):
    storage_class, *homes = describe_homes([tmp_path / "0", tmp_path / "1"], "af-sessions")
    assert storage_class["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert {home["spec"]["storageClassName"] for home in homes} == {storage_class["metadata"]["name"]}
    assert [home["spec"]["hostPath"]["path"] for home in homes] == [str(tmp_path / "0"), str(tmp_path / "1")]
