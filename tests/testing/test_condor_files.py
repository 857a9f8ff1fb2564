"""What the pool finds in its folders, and the keeper of its daemons; no daemon of HTCondor is needed."""

import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from af_hub.errors import Unavailable
from af_hub.testing import keeper
from af_hub.testing.condor_files import (
    describe_daemons,
    describe_environment,
    keep_keys,
    write_certificate,
)
from af_hub.testing.condor_prefix import find_condor


@pytest.mark.parametrize(
    "environment, text",
    [
        ({}, '""'),
        ({"A": "1", "B": "x"}, '"A=1 B=x"'),
        ({"A": "two words"}, "\"'A=two words'\""),
        ({"A": "it's", "B": '"'}, "\"'A=it''s' B=\"\"\""),
    ],
)
def test_environment_in_the_new_syntax(environment: dict[str, str], text: str) -> None:
    assert describe_environment(environment) == text


def test_certificate_is_good_for_its_names(tmp_path: Path) -> None:
    authority, certificate, key = write_certificate(tmp_path, "localhost", "localhost.af-hub.test")
    ssl.create_default_context(cafile=str(authority))
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    names = ssl._ssl._test_decode_cert(str(certificate))["subjectAltName"]  # type: ignore[attr-defined]
    assert names == (("DNS", "localhost"), ("DNS", "localhost.af-hub.test"))
    assert key.stat().st_mode & 0o777 == 0o600


def test_header_comes_before_the_files_of_the_administrator(tmp_path: Path) -> None:
    text = describe_daemons(
        tmp_path / "x", Path("/p"), "127.0.1.1", "t2-a", {"AF_SITE": "T2_A"}, [Path("/c/common.conf")]
    )
    assert text.endswith("include : /c/common.conf\n") and "AF_SITE = T2_A\n" in text
    assert "RELEASE_DIR = /p/usr\n" in text and "NETWORK_INTERFACE = 127.0.1.1\n" in text


def test_seeded_keys_last(tmp_path: Path) -> None:
    """The library's own table, with its ten minutes."""
    database = tmp_path / "scitokens_cpp.sqllite"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
    soon = '{"jwks": {"keys": []}, "next_update": 600, "expires": 3600}'
    connection.execute("INSERT INTO keycache VALUES ('https://iam/', ?)", (soon,))
    connection.commit()
    keep_keys(database)
    (found,) = connection.execute(
        "SELECT json_extract(keys, '$.next_update'), json_extract(keys, '$.expires') FROM keycache"
    )
    connection.close()
    assert found[0] == found[1] > time.time() + 300 * 24 * 3600


def test_prefix_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="AF_CONDOR_PREFIX"):
        find_condor(environ={"AF_CONDOR_PREFIX": str(tmp_path)})


ESCAPER = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(float(sys.argv[1]))
"""


def start_keeper(seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """A keeper of a program that lets a grandchild escape; the grandchild's number."""
    argv = [sys.executable, "-I", "-S", keeper.__file__, sys.executable, "-c", ESCAPER, str(seconds)]
    kept = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert kept.stdout
    return kept, int(kept.stdout.readline())


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("told", [None, signal.SIGTERM, signal.SIGINT])
def test_keeper_leaves_no_escaped_grandchild(told: signal.Signals | None) -> None:
    kept, grandchild = start_keeper(0.2 if told is None else 600)
    assert runs(grandchild)
    if told:
        kept.send_signal(told)
    kept.wait(15)
    assert not runs(grandchild)


def test_keeper_notices_that_its_parent_died() -> None:
    code = f"import subprocess, sys; subprocess.Popen({[sys.executable, '-I', '-S', keeper.__file__]!r} + sys.argv[1:])"
    argv = [sys.executable, "-c", code + "; sys.stdin.read()", sys.executable, "-c", ESCAPER, "600"]
    parent = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout
    grandchild = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 15
    while runs(grandchild):
        assert time.monotonic() < deadline
