"""Tokens that the hub signs, at a real origin and a real cache: what they open, and that keys change without anybody noticing."""

import os
import time
from pathlib import Path

import jwt
import pytest
from reading import read

from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.iam.claims import Claims
from af_hub.policy.model import Policy
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd_tokens import ProtectedService, open_protected_service
from af_hub.tokens.issuer_keys import DAY, KeyFile
from af_hub.tokens.own_issuer import OwnIssuer
from af_hub.tokens.purposes import Purpose

pytestmark = pytest.mark.real

ADA = Claims(ISSUER, "sub-ada", "ada", ("/cms",))
PURPOSE = Purpose("storage.read:/protected", "https://store.test", "hub", 600)
POLICY = Policy.model_validate(
    {
        "facility": {"name": "AF", "contact": "nobody", "hub": "https://hub.af-hub.test/"},
        "issuers": [{"issuer": ISSUER, "data_paths": ["/protected"]}],
        "tokens": {"storage": {"by": "hub", "scopes": ["storage.read:/protected"], "audience": "https://store.test"}},
        "rules": [],
        "images": {},
        "sizes": {},
    }
)


class Clock:
    """In the past at first, so that a month later is now."""

    now = time.time() - 30 * DAY

    def __call__(self) -> float:
        return self.now


def test_data_open_to_tokens_of_the_hub_before_and_after_a_change_of_keys(tmp_path: Path) -> None:
    clock = Clock()
    issuer = OwnIssuer(KeyFile(tmp_path / "keys.json", 30 * DAY, clock), lambda: POLICY, clock)
    issuer.key_set()
    clock.now += 29 * DAY
    published = issuer.key_set()  # what somebody remembers who looked the day before the change
    clock.now = time.time()
    (tmp_path / "data/protected").mkdir(parents=True)
    (tmp_path / "data/protected/one").write_bytes(os.urandom(1000))
    try:
        with open_protected_service(tmp_path, None, tmp_path / "data", POLICY) as service:
            service.bring_keys(published, POLICY.own_issuer)
            signed = [issuer.sign(ADA, PURPOSE)]
            clock.now = time.time() - DAY  # the key before
            signed.append(issuer.sign(ADA, Purpose(PURPOSE.scope, PURPOSE.audience, "hub", DAY + 600)))
            assert len({jwt.get_unverified_header(token.value)["kid"] for token in signed}) == 2
            for token in signed:
                assert opens(service, token.value, tmp_path)["bytes"] == 1000
            for scope, audience in [
                ("storage.read:/elsewhere", "https://store.test"),
                (PURPOSE.scope, "https://x.test"),
            ]:
                token = issuer.sign(ADA, Purpose(scope, audience, "hub", DAY + 600))
                assert "[3010]" in opens(service, token.value, tmp_path)["message"]
    except Unavailable as reason:
        unavailable(str(reason))


def opens(service: ProtectedService, token: str, folder: Path) -> dict[str, object]:
    """What comes of reading the file with this token, through the cache."""
    environment = service.client_environment(folder / "session")
    environment["BEARER_TOKEN_FILE"] = str(write_private(folder / "token", token))
    found: dict[str, object] = read(f"{service.origin.url}//protected/one", environment)
    return found
