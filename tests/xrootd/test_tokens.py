"""A real origin and a real cache that ask for tokens: who reads protected data, through whom, and what the others are told."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reading import read

from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.iam_tokens import ANY_AUDIENCE, DemoUser, SigningKeys, access_claims
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd_tokens import ProtectedService, open_protected_service, policy_of

pytestmark = pytest.mark.real

SIZE = 200_000
ADA = DemoUser("ada", "5f2c1b1e-0000-4000-8000-000000000001", groups=("/cms",))
KEYS, FOREIGN = SigningKeys(), SigningKeys()
DENIED = "permission denied"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProtectedService]:
    folder = tmp_path_factory.mktemp("protected")
    for name in ("store/open", "protected/one", "protected/two", "protectedness/one"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(os.urandom(SIZE))
    try:
        with open_protected_service(folder, KEYS.published(), folder / "data", policy_of([ISSUER])) as service:
            yield service
    except Unavailable as reason:
        unavailable(str(reason))


Read = Callable[..., dict]


@pytest.fixture
def reader(service: ProtectedService, tmp_path: Path) -> Read:
    """Reads a file as a process of a session does; through the cache, or directly with ``cache=False``."""
    environment = service.client_environment(tmp_path / "session")

    def through(path: str, token: str | None = None, cache: bool = True, mode: int = 0o600) -> dict:
        own = dict(environment) if cache else environment | {"XROOT_PROXY": ""}
        if token is not None:
            own["BEARER_TOKEN_FILE"] = str(write_private(tmp_path / "token", token, mode))
            (tmp_path / "token").chmod(mode)
        return read(f"{service.origin.url}//{path}", own)

    return through


def token(keys: SigningKeys = KEYS, algorithm: str = "RS256", **changes: object) -> str:
    """Ada's, good for ten minutes but for what is changed; None leaves a claim out."""
    claims = access_claims(
        ADA,
        issuer=ISSUER,
        client_id="hub",
        scopes=("openid", "wlcg.groups", "storage.read:/"),
        audience=ANY_AUDIENCE,
        profile="wlcg",
        now=time.time(),
        lifetime=600,
    )
    whole = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return keys.sign(whole, algorithm)


def test_a_good_token_reads_through_the_cache_and_directly(service: ProtectedService, reader: Read) -> None:
    for cache in (True, False):
        answer = reader("protected/one", token(), cache)
        server = service.cache if cache else service.origin
        assert (answer["bytes"], answer["server"]) == (SIZE, f"{server.host}:{server.port}"), answer
        assert reader("store/open", None, cache)["bytes"] == SIZE, "public data need no token"
        assert DENIED in reader("protected/one", None, cache)["message"], "also when the cache has it"
