"""The files that XRootD's authorization reads, rendered from the policy; with their real reader in test_tokens.py."""

import re

import pytest

from af_hub.errors import PolicyError
from af_hub.policy.model import Policy
from af_hub.xrootd.access import (
    cache_prefixes,
    describe_authorizations,
    describe_rules,
    describe_scitokens,
    new_cache_key,
    read_cache_names,
)

CMS = {"name": "cms", "issuer": "https://cms-auth.example.org/", "data_paths": ["/cms", "/shared"]}
ICSC = {"name": "icsc", "issuer": "https://icsc.example.org/", "data_paths": ["/icsc"]}
NOBODY = {"name": "guests", "issuer": "https://guests.example.org/"}


def policy(*issuers: dict[str, object], hub: str = "", **more: object) -> Policy:
    about = {"name": "AF", "contact": "c", "hub": hub}
    return Policy.model_validate(
        {"facility": about, "issuers": list(issuers), "rules": [], "images": {}, "sizes": {}, **more}
    )


def test_an_origin_knows_the_issuers_that_have_paths() -> None:
    text = describe_scitokens(policy(CMS, ICSC, NOBODY), audiences=["root://origin.example.org"])

    assert text.partition("\n")[2] == (
        "[Global]\n"
        "audience = https://wlcg.cern.ch/jwt/v1/any, root://origin.example.org\n"
        "\n"
        "[Issuer cms]\n"
        "issuer = https://cms-auth.example.org/\n"
        "base_path = /\n"
        "restricted_path = /cms, /shared\n"
        "\n"
        "[Issuer icsc]\n"
        "issuer = https://icsc.example.org/\n"
        "base_path = /\n"
        "restricted_path = /icsc\n"
    )


def test_a_cache_knows_them_behind_its_origin() -> None:
    text = describe_scitokens(policy(ICSC), cache_prefixes("root://origin.example.org:2094"))

    assert "base_path = /root:/origin.example.org:2094, /xroot:/origin.example.org:2094\n" in text
    assert "restricted_path = /icsc\n" in text


def test_the_standard_port_may_be_left_out() -> None:
    assert cache_prefixes("root://o") == ("/root:/o:1094", "/root:/o", "/xroot:/o:1094", "/xroot:/o")


@pytest.mark.parametrize("url", ["", "o:1094", "https://o", "root://", "root://o:99999"])
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(PolicyError, match="wanted the address of an origin"):
        cache_prefixes(url)


def test_audiences_that_the_policy_asks_for_are_taken() -> None:
    tokens = {"storage": {"audience": "root://data.example.org"}}

    assert "audience = https://wlcg.cern.ch/jwt/v1/any, root://data.example.org\n" in describe_scitokens(
        policy(CMS, tokens=tokens)
    )


def test_what_the_hub_signs_opens_what_the_persons_issuer_opens() -> None:
    tokens = {"storage": {"by": "hub"}}
    whole = policy(
        CMS, {**ICSC, "tokens": {"storage": {"by": "exchange"}}}, hub="https://hub.example.org/", tokens=tokens
    )

    section = describe_scitokens(whole).partition("[Issuer of the hub itself]")[2]
    assert (
        "issuer = https://hub.example.org/hub/api/af/issuer\n" in section
        and "restricted_path = /cms, /shared\n" in section
    )


@pytest.mark.parametrize(
    "scopes, opened",
    [
        pytest.param({}, "", id="each of them reaches everything"),
        pytest.param({"cms": ["storage.read:/cms", "storage.read:/shared"]}, "/cms, /shared", id="guests"),
        pytest.param({"guests": ["storage.read:/cms/open"]}, "/shared", id="a part of it"),
        pytest.param({"guests": ["storage.read:/guests"]}, "/cms, /shared", id="apart"),
    ],
)
def test_the_hub_opens_nothing_to_people_of_another_issuer(scopes: dict[str, list[str]], opened: str) -> None:
    """A server sees one issuer, the hub, and no experiment."""
    narrow = {"cms": CMS, "guests": NOBODY}
    issuers = [
        {**one, "tokens": {"storage": {"scopes": scopes[name]}}} if name in scopes else one
        for name, one in narrow.items()
    ]
    if "cms" in scopes:
        issuers[1] |= {"tokens": {"storage": {"by": "refresh"}}}
    whole = policy(*issuers, hub="https://hub.example.org/", tokens={"storage": {"by": "hub"}})

    section = describe_scitokens(whole).partition("[Issuer of the hub itself]")[2]
    assert section.partition("restricted_path = ")[2].strip() == opened


def test_everybody_reads_what_is_public_and_caches_what_is_protected() -> None:
    keytab = new_cache_key(1_800_000_000) + new_cache_key(1_800_000_000)
    one, other = read_cache_names(keytab)

    assert describe_rules(policy(CMS), ["/store"], caches=[one, other])["authdb"].splitlines()[1:] == [
        "u * /store/ lr",
        f"u {one} /cms/ lr /shared/ lr",
        f"u {other} /cms/ lr /shared/ lr",
    ]
    assert one != other and re.fullmatch(r"cache-[0-9a-f]{32}", one)


def test_folders_end_where_their_names_end() -> None:
    """There the beginning of a path is enough: without the slash, /store would open /storehouse."""
    assert describe_authorizations(["/store/"], ["/root:/o:1094"]).endswith("u * /root:/o:1094/store/ lr\n")


@pytest.mark.parametrize("bad", ["a b", "a,b", "a;b", "a#b", "a\nissuer = https://evil/", 'a"', ""])
def test_what_xrootd_would_misread_is_refused(bad: str) -> None:
    with pytest.raises(PolicyError, match="no way to write them"):
        describe_scitokens(policy(CMS), audiences=[f"root://{bad}" if bad else " "])
    with pytest.raises(PolicyError, match="no way to write them"):
        describe_authorizations([f"/{bad or ' '}"])
