"""Names of accounts: the policy and the access point's program, which imports nothing, have one mind."""

from af_hub.condor import mapper
from af_hub.policy import accounts


def test_both_have_the_same_patterns() -> None:
    assert accounts.ACCOUNT.pattern == mapper.ACCOUNT.pattern
    assert accounts.RESERVED.pattern == mapper.RESERVED.pattern
