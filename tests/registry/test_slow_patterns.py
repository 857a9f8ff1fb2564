"""Patterns of ``own_images`` that could hold the hub's loop are refused; those that are not match anything in a moment."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.registry.patterns import LONGEST, registry_of

HOST = r"registry\.test/"


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(?:[a-z]+/)*lab",
        "(a|a)*",
        "(a|ab?)+:1",
        "(?:a*){12}",
        "(?:a?){30}",
        ".*.*.*.*",
        ".*a?.*b?.*c?d?e?f?",
        "(?=(a+)+)x",
        "(?:(?:a|ab){2}){16}",
        "(?:a{2,}){2,}",
    ],
)
def test_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="might hold the hub for long; write it with at most three of"):
        registry_of(HOST + pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        ".*",
        "cms/.*:v[0-9]+",
        "(cms|atlas|lhcb)/[a-z0-9/-]*:(latest|v[0-9]+)(-rc[0-9]+)?",
        "(?:[a-z]{2}){3}/lab",
        "cms(?:/lab)?",
        "(?!secret).*",
    ],
)
def test_taken(pattern: str) -> None:
    assert registry_of(HOST + pattern) == "registry.test"


ATOMS = st.sampled_from(
    ["a", ".", "[a-z]", "ab", "a?", "a*", ".*", ".+", "[ab]{2,}", "a??", "(?:a|ab)", "(?:a|.)", "a{3}"]
)
PARTS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=5).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{3,9}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(PARTS, st.sampled_from(["a", "ab", "b"]))
def test_whatever_is_taken_is_matched_in_a_moment(part: str, fill: str) -> None:
    pattern = f"{HOST}{part}!"
    try:
        registry_of(pattern)
    except ValueError:
        return
    name = "registry.test/" + (fill * LONGEST)[: LONGEST - 15] + "?"
    begun = time.process_time()
    assert not re.fullmatch(pattern, name)
    assert time.process_time() - begun < 5
