"""What both ends of the forwarder have in common."""

import os

import asyncssh
import pytest

from af_hub.forwarder.ssh import COMMON, have_a_local_user

NOBODY_IS = 3_999_999_999


def test_an_account_that_the_machine_does_not_know_can_connect_too(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: NOBODY_IS)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="Unknown local username"):
        asyncssh.SSHClientConnectionOptions(**COMMON)

    have_a_local_user()
    assert asyncssh.SSHClientConnectionOptions(**COMMON).username == "nobody"


def test_what_an_account_says_of_itself_stays(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: NOBODY_IS)
    environ = {"LOGNAME": "ada", "HOME": "/home/ada"}
    have_a_local_user(environ)

    assert environ == {"LOGNAME": "ada", "HOME": "/home/ada"}
