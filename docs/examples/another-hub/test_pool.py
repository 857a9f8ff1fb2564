"""Whom the pool takes people for: the fixture ``condor_pool`` is a real HTCondor that knows the keys and the people of ``iam``."""

from pathlib import Path

import pytest

from af_hub.testing.condor import RealPool
from af_hub.testing.condor_person import account_of
from af_hub.testing.iam import DemoIAM

COMPUTE = "compute.read compute.modify compute.create compute.cancel wlcg.groups"


@pytest.mark.parametrize(
    "username, account",
    [
        pytest.param("cms-analyst", "u-cms-cms-analyst", id="member"),
        pytest.param("outsider", None, id="not in a group with accounts"),
    ],
)
def test_people(condor_pool: RealPool, iam: DemoIAM, tmp_path: Path, username: str, account: str | None) -> None:
    token = iam.mint(username, COMPUTE, audience=condor_pool.audience)
    assert account_of(condor_pool, token, tmp_path) == account


def test_token_for_another_service_opens_nothing(condor_pool: RealPool, iam: DemoIAM, tmp_path: Path) -> None:
    token = iam.mint("cms-analyst", COMPUTE, audience="https://storage.example.org")
    assert account_of(condor_pool, token, tmp_path) is None
