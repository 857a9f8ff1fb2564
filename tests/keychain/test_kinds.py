"""What is there is kept; what is asked for anew is made once; nothing else happens."""

import asyncssh
import pytest
from cryptography.fernet import Fernet

from af_hub.keychain.kinds import KINDS, numbered, renewed
from af_hub.tokens.keys import KEY, fernet


def flat(written: dict[str, dict[str, str]]) -> dict[str, str]:
    return {file: text for one in written.values() for file, text in one.items()}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return flat(renewed({}, {}, {}, 2))


def test_all_that_the_facility_needs(made: dict[str, str]) -> None:
    assert set(made) == {
        "crypt_key",
        "controller_token",
        "proxy_password",
        "store_password",
        "store.conf",
        "user_ca",
        "user_ca.pub",
        "forwarder_host_key",
        "forwarder_host_key.pub",
    }
    [key] = made["crypt_key"].split()
    assert KEY.match(key) and isinstance(fernet(bytes.fromhex(key)), Fernet)
    assert made["store.conf"] == f"requirepass {made['store_password']}\n"
    for name in ("user_ca", "forwarder_host_key"):
        pair = asyncssh.import_private_key(made[name])
        assert pair.get_algorithm() == "ssh-ed25519"
        assert pair.export_public_key().split()[:2] == made[f"{name}.pub"].encode().split()[:2]
    assert made["proxy_password"] != made["store_password"] != made["controller_token"]


def test_nothing_is_made_twice(made: dict[str, str]) -> None:
    assert renewed(made, {}, {}, 2) == {}
    assert renewed(made, dict.fromkeys(KINDS, 3), dict.fromkeys(KINDS, 2), 2) == {}, "a rollback"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_added_and_all_else_is_left(made: dict[str, str], kind: str) -> None:
    file = KINDS[kind].file
    written = renewed({name: text for name, text in made.items() if name != file}, {}, {}, 2)
    assert list(written) == [kind] and written[kind][file] != made[file]


@pytest.mark.parametrize("file", ["store.conf", "user_ca.pub", "forwarder_host_key.pub"])
def test_what_follows_from_a_secret_is_made_from_it(made: dict[str, str], file: str) -> None:
    assert flat(renewed({name: text for name, text in made.items() if name != file}, {}, {}, 2)) == {file: made[file]}


def test_keys_that_open_stay_and_one_too_many_goes(made: dict[str, str]) -> None:
    second = made | flat(renewed(made, {}, {"crypt": 2}, 2))
    assert second["crypt_key"].split()[1:] == made["crypt_key"].split()
    third = second | flat(renewed(second, {"crypt": 2}, {"crypt": 3}, 2))
    assert third["crypt_key"].split()[1:] == second["crypt_key"].split()[:1]
    assert renewed(third, {"crypt": 3}, {"crypt": 3}, 1) == {
        "crypt": {"crypt_key": third["crypt_key"].split()[0] + "\n"}
    }


def test_the_authority_before_stays_trusted(made: dict[str, str]) -> None:
    second = made | flat(renewed(made, {}, {"user-ca": 2}, 2))
    new, before = second["user_ca.pub"].splitlines()
    assert second["user_ca"] != made["user_ca"] and before == made["user_ca.pub"].strip() != new
    third = flat(renewed(second, {"user-ca": 2}, {"user-ca": 3}, 2))["user_ca.pub"].splitlines()
    assert third[1:] == [new]


def test_numbers_never_fall() -> None:
    assert numbered({"crypt": 3}, {"crypt": 2, "proxy": 2}) == dict.fromkeys(KINDS, 1) | {"crypt": 3, "proxy": 2}
