"""What somebody is told of "permission denied"."""

import pytest

from af_hub.client.denied import why_denied

NOW = 1_800_000_000
GOOD = {"iss": "https://iam.example.org/", "aud": "https://wlcg.cern.ch/jwt/v1/any", "scope": "openid storage.read:/"}


@pytest.mark.parametrize(
    "trouble, claims, sentence",
    [
        pytest.param("The token expired 3 min ago.", {}, "It wants a token. The token expired 3 min ago.", id="file"),
        pytest.param("", GOOD | {"nbf": NOW + 60}, "good only in 60 s", id="clocks"),
        pytest.param("", GOOD | {"scope": "openid compute.read"}, "its scopes: openid compute.read", id="no data"),
        pytest.param("", {}, "its scopes: none", id="no token at all"),
        pytest.param(
            "", GOOD | {"scope": "storage.read:/cms/a storage.read:/prot"}, "reads /cms/a, /prot and", id="other"
        ),
        pytest.param("", GOOD, "issuer https://iam.example.org/, for https://wlcg.cern.ch/jwt/v1/any", id="issuer"),
        pytest.param("", GOOD | {"aud": ["a", "b"]}, "for a, b)", id="audiences"),
        pytest.param("", GOOD | {"aud": None}, "for nobody)", id="no audience"),
        pytest.param("", GOOD | {"scope": "storage.read:/protected"}, "seems right", id="the folder itself"),
        pytest.param("", GOOD | {"scope": "storage.read:/protected/"}, "seems right", id="with a slash"),
        pytest.param("", GOOD | {"scope": "storage.read"}, "seems right", id="without a path"),
    ],
)
def test_the_first_thing_that_is_wrong(trouble: str, claims: dict[str, object], sentence: str) -> None:
    assert sentence in why_denied("/protected/one", trouble, claims, NOW)
