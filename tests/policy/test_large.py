"""A decision costs by the groups of one person, not by the length of the file: operations are counted, not seconds."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from af_hub.condor.mapping import Person, compile_mapping, templates
from af_hub.iam.claims import Claims
from af_hub.policy.decide import decide
from af_hub.policy.model import Policy
from tests.policy.large import GROUPS, ISSUER, group, large_policy, people, plain_limits, same

NOW = 1_800_000_000.0
FEW = 20


@pytest.fixture(scope="module")
def large() -> Policy:
    return large_policy()


def operations(act: Callable[[], object]) -> int:
    """Instructions of Python that ``act`` runs."""
    count = 0

    def step(frame: FrameType, event: str, _: object):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


MEMBER = Claims(ISSUER, "s", "ada", tuple(group(number) for number in range(FEW - 3, FEW)))
STRANGER = Claims(ISSUER, "s", "ada", ("/elsewhere", "/experiment0"))


@pytest.mark.parametrize("who", [MEMBER, STRANGER], ids=["member", "stranger"])
def test_a_hundred_times_the_groups_cost_not_one_operation_more(large: Policy, who: Claims) -> None:
    small = large_policy(FEW)
    for policy in (small, large):
        decide(policy, who, NOW)  # makes the index
    few, many = (operations(lambda policy=policy: decide(policy, who, NOW)) for policy in (small, large))
    assert many <= few * 1.2 < 5_000, (few, many)  # a refusal lists five groups of twenty or of two thousand
    assert operations(lambda: plain_limits(large, who, NOW)) > 10 * many


def test_the_index_changes_no_decision(large: Policy) -> None:
    for claims in list(people(1000))[9::45]:
        assert same(decide(large, claims, NOW)) == plain_limits(large, claims, NOW), claims
    assert same(decide(large, MEMBER, NOW))[1] == tuple(f"rule {number}" for number in range(FEW - 3, FEW))


def test_the_access_point_has_one_account_a_person_and_template_however_many_rules(large: Policy) -> None:
    everybody = [Person(ISSUER, claims.subject, claims.username) for claims in people(200)]
    few, many = large_policy(FEW), large
    compiled = [compile_mapping(policy, everybody, NOW) for policy in (few, many)]
    assert [mapping.accounting_map.count("\n") for mapping in compiled] == [200, 200]
    few_operations, many_operations = (operations(lambda p=p: templates(p.rules)) for p in (few, many))
    assert many_operations < 200 * few_operations and len(templates(many.rules)) == 1


def test_a_copy_with_other_rules_has_an_index_of_its_own(large: Policy) -> None:
    assert decide(large, MEMBER, NOW).login and len(large.rules) == GROUPS
    assert not decide(large.model_copy(update={"rules": large.rules[FEW:]}), MEMBER, NOW).login
    assert decide(large, MEMBER, NOW).login
