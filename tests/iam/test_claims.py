"""What an IAM says, in both profiles, with the ugly rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.errors import ClaimsError
from af_hub.iam.claims import normalise_groups, read_claims

PERSON = {"sub": "1", "preferred_username": "ada"}


@pytest.mark.parametrize(
    "found, groups",
    [
        pytest.param({"wlcg.groups": ["/cms", "/cms/itcms"]}, ("/cms", "/cms/itcms"), id="WLCG profile"),
        pytest.param({"groups": ["cms", "cms/itcms"]}, ("/cms", "/cms/itcms"), id="IAM profile"),
        pytest.param({"wlcg.groups": ["/b"], "groups": ["a"]}, ("/b",), id="both: WLCG rules"),
        pytest.param({}, (), id="no claim: no groups"),
        pytest.param({"groups": []}, (), id="empty"),
        pytest.param({"groups": ["/cms/", "cms"]}, ("/cms",), id="slashes do not make another group"),
    ],
)
def test_groups_of_both_profiles(found, groups):
    assert read_claims({**PERSON, **found}, "https://iam/").groups == groups


@pytest.mark.parametrize(
    "found, says",
    [
        pytest.param({"preferred_username": "ada"}, "no claim `sub`", id="no subject"),
        pytest.param({"sub": "1"}, "scope `profile`", id="no name"),
        pytest.param({"sub": 1, "preferred_username": "ada"}, "no claim `sub`", id="subject is no text"),
        pytest.param({**PERSON, "preferred_username": "ada\n"}, "cannot be used", id="newline at the end"),
        pytest.param({**PERSON, "preferred_username": "../ada"}, "cannot be used", id="a path"),
        pytest.param({**PERSON, "preferred_username": "Ada"}, "cannot be used", id="capitals"),
        pytest.param({**PERSON, "groups": "cms"}, "a list of group names was wanted", id="one text for a list"),
        pytest.param({**PERSON, "groups": [1]}, "each must be a group name", id="a number for a group"),
        pytest.param({**PERSON, "groups": ["/"]}, "each must be a group name", id="a bare slash"),
        pytest.param(
            {**PERSON, "groups": ["a\nb"]},
            "each must be a group name",
            id="a line break, which would forge a line of the log",
        ),
    ],
)
def test_what_cannot_be_a_person(found, says):
    with pytest.raises(ClaimsError, match=says):
        read_claims(found, "https://iam/")


@given(
    st.lists(
        st.text(
            st.characters(exclude_characters="/ \t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0", exclude_categories=["Z", "C"]),
            min_size=1,
        )
    )
)
def test_normalising_twice_changes_nothing(names):
    once = normalise_groups(names)
    assert normalise_groups(once) == once
    assert set(once) == {"/" + name for name in names}
