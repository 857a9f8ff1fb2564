"""Whatever a pattern of ``own_images`` is, it never holds the hub's loop."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.registry.patterns import opens, registry_of
from af_hub.registry.reference import Reference

HOST = r"registry\.test/"
LONG = 255


@pytest.mark.parametrize(
    "pattern", ["(?=(a+)+)x", "(?!secret).*", r"(a)\1", "a)|(b", "(.{1000}){1000}", "a{2", "(?x)a #"]
)
def test_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="which is no regular expression that can be used here"):
        registry_of(HOST + pattern)


@pytest.mark.parametrize("pattern", [".*", "(cms|atlas)/[a-z0-9/-]*:(latest|v[0-9]+)(-rc[0-9]+)?", r"cms\/lab\-a\:1"])
def test_taken(pattern: str) -> None:
    assert registry_of(HOST + pattern) == "registry.test"


PARTS = st.recursive(
    st.sampled_from(["a", ".", "[a-z]", "ab", "a?", "a*", ".*", ".+", "[ab]{2,}", "a??", "(?:a|ab)", "a{3}"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=5).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{3,9}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(PARTS, st.sampled_from(["a", "ab", "b"]))
def test_whatever_is_taken_is_matched_in_a_moment(part: str, fill: str) -> None:
    pattern = f"{HOST}{part}!"
    try:
        registry_of(pattern)
    except ValueError:
        return
    image = Reference("registry.test", (fill * LONG)[:LONG], "1")
    begun = time.process_time()
    assert not opens(pattern, image)
    assert time.process_time() - begun < 1
