"""What a registry may have the hub do before it answers, and what it may not."""

import time

import pytest

from af_hub.registry.challenge import Challenge, may_ask_token, may_redirect, origin_of, read_challenge


@pytest.mark.parametrize(
    "header, found",
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull"',
            Challenge("bearer", "https://auth.docker.io/token", "registry.docker.io"),
        ),
        ("Bearer realm=https://a.test/t, service=x", Challenge("bearer", "https://a.test/t", "x")),
        ('bearer Realm="https://a.test/t"', Challenge("bearer", "https://a.test/t")),
        ('Basic realm="Registry Realm"', Challenge("basic", "Registry Realm")),
        ("Basic", Challenge("basic")),
        ("Negotiate", Challenge("")),
        ("", Challenge("")),
        ("Bearer", Challenge("bearer")),
    ],
)
def test_challenges(header: str, found: Challenge) -> None:
    assert read_challenge(header) == found


@pytest.mark.parametrize("long", ["a" * 8000, 'a="' * 2600, "a=" * 4000], ids=["a word", "open quotes", "keys"])
def test_a_long_challenge_holds_nobody_up(long: str) -> None:
    began = time.process_time()
    assert read_challenge(f"Bearer {long}").realm == ""
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "registry, realm, good",
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://gitlab-registry.cern.ch", "https://gitlab.cern.ch/jwt/auth", True),
        ("https://ghcr.io", "https://ghcr.io/token", True),
        ("https://ghcr.io", "https://ghcr.io:8443/token", True),
        ("https://ghcr.io", "http://ghcr.io/token", False),
        ("https://ghcr.io", "https://evil.test/token", False),
        ("https://ghcr.io", "https://evil-ghcr.io/token", False),
        ("https://ghcr.io", "https://ghcr.io.evil.test/token", False),
        ("https://ghcr.io", "https://user@ghcr.io/token", False),
        ("https://ghcr.io", "https://ghcr.io@evil.test/token", False),
        ("https://ghcr.io", "http://169.254.169.254/latest/api/token", False),
        ("https://ghcr.io", "https://169.254.169.254/token", False),
        ("https://ghcr.io", "https://10.0.0.1/token", False),
        ("https://10.0.0.1", "https://10.0.0.1/token", True),
        ("https://10.0.0.2", "https://10.1.0.2/token", False),
        ("https://localhost", "https://localhost/token", True),
        ("https://registry", "https://other/token", False),
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000/token", True),
        ("http://10.0.0.1:5000", "http://10.0.0.1:8081/token", False),
        ("http://reg.test", "https://auth.reg.test/token", False),
        ("https://ghcr.io", "file:///etc/passwd", False),
        ("https://ghcr.io", "/token", False),
        ("https://ghcr.io", "", False),
        ("https://ghcr.io", "https://[", False),
        ("https://ghcr.io", "https://ghcr.io:0/token", False),
        ("https://ghcr.io", "https://ghcr.io:99999/token", False),
    ],
)
def test_where_a_token_may_be_asked_for(registry: str, realm: str, good: bool) -> None:
    assert may_ask_token(registry, realm) is good


@pytest.mark.parametrize(
    "registry, target, good",
    [
        ("https://ghcr.io", "https://pkg-containers.githubusercontent.com/x?sig=1", True),
        ("https://ghcr.io", "https://ghcr.io/elsewhere", True),
        ("https://ghcr.io", "http://ghcr.io/elsewhere", False),
        ("https://ghcr.io", "http://cdn.test/x", False),
        ("https://ghcr.io", "https://10.0.0.1/x", False),
        ("https://ghcr.io", "https://[::1]/x", False),
        ("https://ghcr.io", "https://127.1/x", False),
        ("https://ghcr.io", "https://2130706433/x", False),
        ("https://ghcr.io", "https://0x7f.1/x", False),
        ("https://10.0.0.1", "https://10.0.0.1/x", True),
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000/x", True),
        ("http://10.0.0.1:5000", "http://10.0.0.1:8081/x", False),
        ("https://ghcr.io", "ftp://ghcr.io/x", False),
        ("https://ghcr.io", "", False),
    ],
)
def test_where_a_registry_may_send_the_hub(registry: str, target: str, good: bool) -> None:
    assert may_redirect(registry, target) is good


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("https://a.test", "https://a.test:443/x", True),
        ("https://A.test", "https://a.test", True),
        ("https://a.test", "http://a.test", False),
        ("https://a.test", "https://a.test:8443", False),
        ("https://a.test", "https://b.test", False),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same
