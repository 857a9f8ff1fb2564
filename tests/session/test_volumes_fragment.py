"""Storage of a session beside its home, as a pod has it."""

import pytest

from af_hub.policy.sessions import Volume
from af_hub.session.fragments import merge
from af_hub.session.volumes import quantity, volumes_fragment

VOLUMES = {
    "cms": Volume(title="CMS", path="/shared/cms", claim="cms-shared"),
    "software": Volume(title="Software", path="/shared/software", claim="software", read_only=True),
    "scratch": Volume(title="Scratch", path="/scratch", scratch="20 GiB"),
    "fast": Volume(title="Fast", path="/fast", scratch="100 GB", storage_class="local-nvme"),
}


@pytest.mark.parametrize(
    "name, source, mount",
    [
        pytest.param(
            "cms",
            {"persistentVolumeClaim": {"claimName": "cms-shared"}},
            {"mountPath": "/shared/cms"},
            id="a shared folder",
        ),
        pytest.param(
            "software",
            {"persistentVolumeClaim": {"claimName": "software"}},
            {"mountPath": "/shared/software", "readOnly": True, "recursiveReadOnly": "IfPossible"},
            id="one that nobody writes to",
        ),
        pytest.param(
            "scratch",
            {"emptyDir": {"sizeLimit": "20Gi"}},
            {"mountPath": "/scratch"},
            id="scratch on the node's disk",
        ),
        pytest.param(
            "fast",
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "local-nvme",
                            "resources": {"requests": {"storage": "100000000000"}},
                        }
                    }
                }
            },
            {"mountPath": "/fast"},
            id="scratch of a storage class",
        ),
    ],
)
def test_a_volume(name, source, mount):
    fragment = volumes_fragment(VOLUMES, [name])
    assert fragment.volumes == {f"volume-{name}": source} and fragment.mounts == {f"volume-{name}": mount}


@pytest.mark.parametrize(
    "amount, text", [(8 * 2**20, "8Mi"), (2**40, "1024Gi"), (1000, "1000"), (2**20 + 1, "1048577")]
)
def test_amounts(amount, text):
    assert quantity(amount) == text


def test_the_first_scratch_is_told():
    assert volumes_fragment(VOLUMES, ["cms", "fast", "scratch"]).environment == {"AF_SCRATCH": "/fast"}
    assert volumes_fragment(VOLUMES, ["cms"]).environment == {}


def test_nothing_given_nothing_mounted():
    assert volumes_fragment(VOLUMES, []) == merge()
