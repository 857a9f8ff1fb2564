"""Names of images: what they mean in full, what is none, and that no text slips between reading and writing."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from af_hub.errors import ImageRefused
from af_hub.registry.patterns import describe_pattern, is_open, opens, opens_all_of_anybody, registry_of
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import Reference, read_reference

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim"),
        ("jupyter/base-notebook", "docker.io/jupyter/base-notebook:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/python:3", "docker.io/library/python:3"),
        ("docker.io/jupyter/base-notebook", "docker.io/jupyter/base-notebook:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:R_1", "localhost:5000/a/b:R_1"),
        ("ghcr.io/cms/Lab:1".lower(), "ghcr.io/cms/lab:1"),
        ("10.88.0.1:5000/lab", "10.88.0.1:5000/lab:latest"),
        ("[fd00::1]:5000/lab", "[fd00::1]:5000/lab:latest"),
        ("registry:5000/lab", "registry:5000/lab:latest"),
        (f"ghcr.io/a@{SHA}", f"ghcr.io/a@{SHA}"),
        (f"ghcr.io/a:1@{SHA}", f"ghcr.io/a:1@{SHA}"),
        (f"ghcr.io/a@sha512:{HEX * 2}", f"ghcr.io/a@sha512:{HEX * 2}"),
        ("ghcr.io/a__b/c--d/e.f_g", "ghcr.io/a__b/c--d/e.f_g:latest"),
        ("af-hub.test/python-base:1", "af-hub.test/python-base:1"),
    ],
)
def test_what_a_name_means(typed: str, meant: str) -> None:
    assert str(read_reference(typed)) == meant == str(read_reference(meant))


@pytest.mark.parametrize(
    "typed, says",
    [
        pytest.param("", "found 0 characters", id="nothing"),
        pytest.param("a" * 513, "found 513 characters", id="too long"),
        pytest.param(f"ghcr.io/{'a' * 250}", "at most 255", id="a name too long"),
        pytest.param("ghcr.io/a\n", r"found '\n'", id="newline behind"),
        pytest.param("ghcr.io/a:1\nx", r"found '\n'", id="newline in the tag"),
        pytest.param("ghcr.io/a\r", r"found '\r'", id="carriage return"),
        pytest.param("ghcr.io/a b", "found ' '", id="blank"),
        pytest.param("ghcr.io/a\u2028", "found '\\u2028'", id="another line break"),
        pytest.param("ghcr.io/\u0430", "found '\\u0430'", id="a letter of another alphabet"),
        pytest.param("ghcr.io/a\x00", r"found '\x00'", id="zero byte"),
        pytest.param("docker://ghcr.io/a", "found `docker://`", id="a transport"),
        pytest.param("https://ghcr.io/a", "found `https://`", id="an address"),
        pytest.param("ghcr.io/CMS/a", "capital letter", id="capitals in the path"),
        pytest.param("GHCR.io/a", "capital letter", id="capitals in the registry"),
        pytest.param("ghcr.io/a:", "found the tag ''", id="an empty tag"),
        pytest.param("ghcr.io/a:-1", "found the tag '-1'", id="a tag that begins with a hyphen"),
        pytest.param("ghcr.io/a:1:2", "found the tag '1:2'", id="two tags"),
        pytest.param("ghcr.io/a:" + "1" * 129, "128 at most", id="a tag too long"),
        pytest.param("ghcr.io/a@", "without a digest", id="an empty digest"),
        pytest.param(f"ghcr.io/a@{SHA}0", "without a digest", id="a digest and more"),
        pytest.param(f"ghcr.io/a@{SHA.upper()}", "without a digest", id="a digest in capitals"),
        pytest.param(f"ghcr.io/a@{SHA}@{SHA}", "without a digest", id="two digests"),
        pytest.param("user:secret@ghcr.io/a", "without a digest", id="a user"),
        pytest.param("ghcr.io/", "found ''", id="no path"),
        pytest.param("ghcr.io//a", "found '/a'", id="two slashes"),
        pytest.param("/a", "found '/a'", id="a slash in front"),
        pytest.param("ghcr.io/a/", "found 'a/'", id="a slash behind"),
        pytest.param("ghcr.io/../a", "found '../a'", id="dots"),
        pytest.param("ghcr.io/a/./b", "found 'a/./b'", id="a dot"),
        pytest.param("ghcr.io/-a", "found '-a'", id="a hyphen in front"),
        pytest.param("ghcr.io/a..b", "found 'a..b'", id="two dots in a word"),
        pytest.param("ghcr.io/a?x=1", "found 'a?x=1'", id="a query"),
        pytest.param("ghcr.io/a#x", "found 'a#x'", id="a fragment"),
        pytest.param("ghcr.io/a%2f..", "found 'a%2f..'", id="an escape"),
        pytest.param("ghcr.io/$(id)", "found '$(id)'", id="a command"),
        pytest.param("ghcr..io/a", "found the registry 'ghcr..io'", id="two dots in the registry"),
        pytest.param("ghcr.io:x/a", "found the registry 'ghcr.io:x'", id="a port that is none"),
        pytest.param(".ghcr.io/a", "found the registry '.ghcr.io'", id="a dot in front"),
        pytest.param("ghcr_io.x/a", "found the registry 'ghcr_io.x'", id="an underscore in the registry"),
    ],
)
def test_what_is_no_name(typed: str, says: str) -> None:
    with pytest.raises(ImageRefused) as refusal:
        read_reference(typed)
    assert refusal.value.reason == ImageReason.NAME
    assert says in str(refusal.value) and "wanted" in str(refusal.value) and len(str(refusal.value)) < 400
    assert str(refusal.value).isascii() and str(refusal.value).isprintable()


WORDS = st.sampled_from(("a", "b0", "c.d", "e_f", "g__h", "i-j", "k--l", "0"))
GOOD = st.builds(
    Reference,
    st.sampled_from(("reg.test", "a.reg.test", "reg.test:5000", "localhost", "docker.io", "10.0.0.1:80", "x:1")),
    st.lists(WORDS, min_size=2, max_size=4).map("/".join),
    st.sampled_from(("1", "R_1.0-x", "_", "latest")),
    st.sampled_from(("", SHA)),
)


@given(GOOD)
def test_what_is_written_is_read_as_it_was(reference: Reference) -> None:
    assert read_reference(str(reference)) == reference


@given(st.text(st.characters() | st.sampled_from("a.:/@-_\n "), max_size=60))
@example("a\n")
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    """And a name is printable, has no blank, and means the same when it is read again."""
    try:
        found = read_reference(text)
    except ImageRefused as refusal:
        assert refusal.reason == ImageReason.NAME
        return
    meant = str(found)
    assert meant.isascii() and meant.isprintable() and " " not in meant
    assert read_reference(meant) == found and (found.tag or found.digest)


# ------------------------------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    "pattern, typed, open_",
    [
        (r"reg\.test/cms/.*", "reg.test/cms/a", True),
        (r"reg\.test/cms/.*", "reg.test/cms/a/b:1", True),
        (r"reg\.test/cms/.*", "reg.test/cmsx/a", False),
        (r"reg\.test/cms/.*", "reg.test:443/cms/a", False),
        (r"reg\.test/cms/.*", "evil.test/reg.test/cms/a", False),
        (r"reg\.test/cms/[a-z]+:[0-9.]+", "reg.test/cms/a:1.2", True),
        (r"reg\.test/cms/[a-z]+:[0-9.]+", "reg.test/cms/a", False),
        (r"reg\.test/cms/[a-z]+:[0-9.]+", f"reg.test/cms/a:1@{SHA}", False),
        (r"reg\.test/cms/[a-z]+$", f"reg.test/cms/a@{SHA}", False),
        (r"reg\.test/cms/a:2026\..*", "reg.test/cms/a:2026.1", True),
        (r"reg\.test/cms/a:2026\..*", f"reg.test/cms/a:2026.1@{SHA}", False),
        (r"reg\.test/cms/a@sha256:.*", f"reg.test/cms/a:2026.1@{SHA}", True),
        (r"reg\.test/a:1|.*", "evil.test/b", False),
        (r"reg\.test/a:1|evil\.test/b:1", "evil.test/b:1", False),
        (r"reg\.test/a:1|reg\.test/b:1", "reg.test/b:1", True),
        (r"docker\.io/library/python:3.*", "python:3.13", True),
        (r"docker\.io/library/python:3.*", "evil/python:3.13", False),
        (r"localhost:5000/.*", "localhost:5000/a", True),
        (r"localhost:5000/.*", "localhost/a", False),
        (r"(?i)reg\.test/.*", "reg.test/a", None),
        (r"reg.test/.*", "reg.test/a", None),
        (r"[a-z.]+/.*", "reg.test/a", None),
        (r".*", "reg.test/a", None),
        (r"reg\.test", "reg.test/a", None),
        (r"reg\.test/", "reg.test/a", None),
        (r"reg\.test/(", "reg.test/a", None),
    ],
)
def test_what_a_pattern_opens(pattern: str, typed: str, open_: bool | None) -> None:
    """None: the pattern itself is refused."""
    if open_ is None:
        with pytest.raises(ValueError, match="found "):
            registry_of(pattern)
        return
    assert opens(pattern, read_reference(typed)) is open_
    assert is_open([r"other\.test/.*", pattern], read_reference(typed)) is open_


@given(GOOD, GOOD)
def test_no_pattern_opens_another_registry(one: Reference, other: Reference) -> None:
    pattern = one.registry.replace(".", r"\.") + "/.*|.*"
    assert opens(pattern, other) is (one.registry == other.registry)


@pytest.mark.parametrize(
    "pattern, words",
    [
        (r"reg\.test/cms/.*", "reg.test/cms/…"),
        (r"reg\.test:5000/cms-lab:1\.0", "reg.test:5000/cms-lab:1.0"),
        (r"reg\.test/(a|b):.*", r"images of reg.test whose whole name matches reg\.test/(a|b):.*"),
    ],
)
def test_patterns_in_words(pattern: str, words: str) -> None:
    assert describe_pattern(pattern) == words


@pytest.mark.parametrize(
    "pattern, all_",
    [(r"ghcr\.io/.*", True), (r"ghcr\.io/cms/.*", False), (r"reg\.test/.*", False), (r"docker\.io/.+", True)],
)
def test_patterns_that_open_what_anybody_makes(pattern: str, all_: bool) -> None:
    assert opens_all_of_anybody(pattern) is all_
