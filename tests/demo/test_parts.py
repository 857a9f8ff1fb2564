"""Getting what the demo needs: the first no ends it, unless one goes on."""

import subprocess
import threading

import pytest

from af_hub.demo import parts
from af_hub.demo.parts import Part, get_parts
from af_hub.errors import Unavailable


@pytest.fixture
def got(monkeypatch, tmp_path):
    """Parts of which the first cannot be had and the others wait until that is told; the names of those that were got."""
    got, refused = [], threading.Event()

    class No(Unavailable):
        def __str__(self):
            refused.set()
            return "there is none"

    def refuse(say):
        raise No

    def take(name):
        def get(say):
            assert refused.wait(10)
            got.append(name)

        return get

    made = [Part("first", refuse), *(Part(name, take(name)) for name in ("second", "third", "fourth"))]
    monkeypatch.setattr(parts, "parts", lambda checkout: made)
    monkeypatch.setattr(parts, "lacks", lambda wishes: [])
    return got


def test_the_first_no_ends_it(got, tmp_path, capsys):
    assert get_parts(tmp_path) == ["first"]
    assert got in ([], ["second"]), "which may have begun"
    assert "first: cannot be had: there is none" in capsys.readouterr().err


def test_for_tests_the_rest_is_got(got, tmp_path):
    assert get_parts(tmp_path, keep_going=True) == ["first"]
    assert sorted(got) == ["fourth", "second", "third"]


def test_what_the_machine_lacks_is_said_before_anything_is_got(got, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "lacks", lambda wishes: ["it has no disk"])
    assert get_parts(tmp_path) == ["the demo"]
    assert got == [] and capsys.readouterr().err == "cannot be done here: it has no disk\n"


def test_a_mistake_of_ours_is_not_hidden(got, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "parts", lambda checkout: [Part("first", lambda say: {}["nothing"])])
    with pytest.raises(KeyError):
        get_parts(tmp_path)


def test_af_is_a_command_in_each_image(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    parts.lend_command(tmp_path)
    told = subprocess.run(
        ["af", "whoami"], env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert told.stdout == "-m af_hub.client.command whoami\n"
