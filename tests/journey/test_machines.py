"""The demo on machines of every kind, and on one whose disk gets full: it runs, or says what to change, and nothing is half-done."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from af_hub.demo.check import wait_until
from af_hub.testing.browser import hub_token, sign_in
from af_hub.testing.debian import cache_folder
from af_hub.testing.process import Daemon, comes_true
from af_hub.testing.require import unavailable

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).parents[2]
CHECK_SECONDS, SAID_SECONDS = 240, 10
AS_USER = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
WITHOUT_A_NAME = ["unshare", "--user", "--map-user=4242", "--map-group=4242", "env", "-u", "LOGNAME", "-u", "USER"]
CHECK = """
import sys
from pathlib import Path
from af_hub.demo.check import check
sys.exit(not all(hop.ok for hop in check(Path(sys.argv[1]), keep=False)))
"""
ONLY_LOOPBACK = "ip link set lo up"
NO_IPV6 = "for each in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$each/disable_ipv6; done"


def machine(script: str, *flags: str, then: list[str] = AS_USER) -> list[str]:
    """What is put before a command so that it runs where ``script`` has made everything as it should be, as an ordinary user again."""
    return ["unshare", "--user", "--map-root-user", *flags, "sh", "-ec", f'{script}; exec "$@"', "sh", *then]


def disk(folder: Path, megabytes: float) -> list[str]:
    """A machine on which ``folder`` is a small disk of its own."""
    return machine(f"mount -t tmpfs -o size={megabytes * 1024:.0f}k none '{folder}'", "--mount")


def needs(prefix: list[str]) -> list[str]:
    """``prefix``, where this machine lets us have such a machine."""
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=20)
    except OSError as error:
        unavailable(f"no such machine can be made here: {error}")
    if done.returncode:
        unavailable(f"no such machine can be made here: {done.stderr.strip()}")
    return prefix


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a blank in its path, and a path so short that a demo stays in it."""
    with tempfile.TemporaryDirectory(prefix="a b") as folder:
        yield Path(folder)


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with a blank in its path, in which HTCondor, XRootD and data are there already."""
    home = tmp_path / "ho me"
    (home / ".cache").mkdir(parents=True)
    (home / ".cache" / "af-hub").symlink_to(cache_folder())
    return home


def start_check(prefix: list[str], folder: Path, home: Path) -> "subprocess.Popen[str]":
    """``make demo-check`` there, with its files in ``folder``."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    argv = [*prefix, sys.executable, "-c", CHECK, str(folder)]
    return subprocess.Popen(
        argv,
        cwd=CHECKOUT,
        env=environment | {"HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def holds(check: "subprocess.Popen[str]", folder: Path) -> None:
    """The whole way holds, and nothing of it stays."""
    try:
        printed, _ = check.communicate(timeout=CHECK_SECONDS)
    finally:
        check.terminate()
        check.wait(60)
    if "cannot be had" in printed:
        unavailable(printed)
    assert check.returncode == 0, printed
    assert not list(folder.iterdir())


def test_the_whole_way_on_a_strange_machine(folder, home):
    """Everything at once that a machine may lack: a network, IPv6, a name for the account, a home to write in, paths without blanks."""
    home.chmod(0o500)
    prefix = needs(machine(f"{ONLY_LOOPBACK}; {NO_IPV6}", "--net", then=WITHOUT_A_NAME))

    holds(start_check(prefix, folder, home), folder)


@pytest.mark.long
@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param([], id="as it is"),
        pytest.param(machine(ONLY_LOOPBACK, "--net"), id="without a network"),
        pytest.param(machine(f"{ONLY_LOOPBACK}; {NO_IPV6}", "--net"), id="without IPv6"),
        pytest.param(WITHOUT_A_NAME, id="an account without a name"),
    ],
)
def test_the_whole_way_on_each_machine(folder, home, prefix):
    holds(start_check(needs(prefix), folder, home), folder)


@pytest.mark.long
def test_the_whole_way_twice_side_by_side(folder, home):
    checks = [start_check([], folder, home) for _ in range(2)]
    printed = [check.communicate(timeout=CHECK_SECONDS)[0] for check in checks]

    assert [check.returncode for check in checks] == [0, 0], "\n".join(printed)
    assert not list(folder.iterdir())


@pytest.mark.long
@pytest.mark.timeout(1300)
def test_a_new_checkout_with_a_blank_in_its_path(tmp_path):
    """What a newcomer does; everything is fetched, so this takes minutes."""
    programs = {name: shutil.which(name) or unavailable(f"there is no {name}") for name in ("git", "make")}
    subprocess.run([programs["git"], "clone", "-q", str(CHECKOUT), str(tmp_path / "check out")], check=True)
    (tmp_path / "ho me").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    done = subprocess.run(
        [programs["make"], "demo-check"],
        cwd=tmp_path / "check out",
        env=environment | {"HOME": str(tmp_path / "ho me")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    if "no package index" in done.stdout or "no Debian archive" in done.stdout:
        unavailable(done.stdout)
    assert done.returncode == 0, done.stdout


# --- what cannot be: said within seconds ---------------------------------------------------------------------------------


def said_by(argv: list[str], **environment: str) -> str:
    """What a command that must fail says, within a few seconds on a quiet machine."""
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=CHECKOUT, env=os.environ | environment, capture_output=True, text=True, timeout=6 * SAID_SECONDS
    )
    assert time.monotonic() - began < 3 * SAID_SECONDS
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in said, said
    return said


def environment_at(folder: Path) -> list[str]:
    """The command that makes a Python environment there."""
    lock = CHECKOUT / "images/python-base/requirements.lock"
    return [sys.executable, "-m", "af_hub.demo.environment", str(folder / "made"), str(lock)]


def test_set_up_without_a_network_asks_for_one(tmp_path):
    prefix = needs(machine(ONLY_LOOPBACK, "--net"))
    said = said_by([*prefix, *environment_at(tmp_path)])
    assert "pip reaches no package index. Is this machine online?" in said
    assert not (tmp_path / "made").exists()

    condor = "from af_hub.testing.condor_prefix import find_condor; find_condor()"
    command = f"import sys\nfrom af_hub.errors import Unavailable\ntry:\n    {condor}\nexcept Unavailable as e: sys.exit(str(e))"
    said = said_by([*prefix, sys.executable, "-c", command], XDG_CACHE_HOME=str(tmp_path))
    if "missing on this machine" in said or "names no Debian archive" in said or "is missing" in said:
        unavailable(said)
    assert "apt-get reaches no Debian archive" in said and "AF_DEBIAN_MIRROR" in said
    assert [path.name for path in (tmp_path / "af-hub").iterdir()] == [".condor-trixie.lock"]


def test_set_up_on_a_full_disk_says_so_and_leaves_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    prefix = needs(disk(small, 5))
    left = f"{' '.join(map(repr, environment_at(small)))}; s=$?; ls {str(small)!r}; exit $s"
    said = said_by([*prefix, "sh", "-c", left])

    assert f"a disk got full while {small}/made was made" in said and "free some there" in said
    assert said.rstrip().endswith("free some there")


def demo(prefix: list[str], folder: Path) -> list[str]:
    return [
        *prefix,
        sys.executable,
        "-m",
        "af_hub.cli",
        "demo",
        "--folder",
        str(folder),
        "--port",
        "0",
        "--with-parent",
    ]


def test_the_demo_needs_room(folder):
    said = said_by(demo(needs(disk(folder, 100)), folder / "d"))
    assert f"the disk of {folder} has" in said and "MB free, 300 MB are wanted" in said


def test_the_demo_needs_a_folder_to_write(folder):
    (folder / "closed").mkdir(mode=0o500)
    said = said_by(demo([], folder / "closed/d"))
    assert f"{folder}/closed/d cannot be used (Permission denied)" in said and "--folder FOLDER" in said


@pytest.fixture
def small_disk(folder, tmp_path) -> Iterator[tuple[Daemon, dict, Path]]:
    """A demo on a disk of its own; its facts, and that disk as it is seen from here."""
    argv = demo(needs(disk(folder, 400)), folder / "d")
    running = Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], tmp_path / "demo.log")
    try:
        facts = running.start().ready(120)
        yield running, facts, Path(f"/proc/{running.process.pid}/root{folder}")
    finally:
        running.stop(grace=40)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk for a while."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65536))
            except OSError:
                pass
        yield
    finally:
        filler.unlink()


def within_seconds(call: Callable[[], httpx.Response]) -> httpx.Response:
    began = time.monotonic()
    answer = call()
    assert time.monotonic() - began < SAID_SECONDS
    return answer


def ended(running: Daemon) -> list[str]:
    """The parts that the demo said had ended, without HTCondor's machines: their daemons end when they cannot write their logs."""
    said = running.log.read_text()
    return [name for name in re.findall("The (.+?) has ended", said) if not name.startswith("condor_master of ")]


def test_a_disk_that_gets_full_ends_nothing_of_ours_and_is_told(small_disk):
    running, facts, folder = small_disk
    order = {"site": "T2_A", "image": "python-analysis", "workers": 1, "cores": 1, "memory": 2**30}
    with closing(sign_in(facts["url"], "cms-analyst")) as browser:
        headers = {"Authorization": f"Bearer {hub_token(browser, 'cms-analyst')}"}
        with httpx.Client(base_url=f"{facts['url']}services/af-controller/api/", headers=headers, timeout=60) as api:
            with full(folder):
                refused = within_seconds(lambda: api.post("clusters", json=order))
                assert refused.status_code == 503, refused.text
                assert "cannot" in refused.json()["detail"] and "disk" in refused.json()["detail"], refused.text
                with pytest.raises(PermissionError, match="Nobody can log in at this moment"):
                    sign_in(facts["url"], "cms-colleague")

            assert api.get("clusters").json() == []
            made = api.post("clusters", json=order).json()
            # No further: its job asks for more disk than there is here.
            assert comes_true(lambda: api.get(f"clusters/{made['id']}").json()["state"] == "queued", 60, pause=0.2)
            sign_in(facts["url"], "cms-colleague").close()
            api.delete(f"clusters/{made['id']}")
            wait_until(
                lambda: api.get(f"clusters/{made['id']}").json()["state"] == "closed", "the cluster is closed", 30
            )
    assert running.alive() and not ended(running)
    assert "in a row" not in running.log.read_text(), "nothing was given up, HTCondor neither"


@pytest.mark.long
def test_htcondor_ends_on_a_full_disk_and_comes_back(small_disk):
    running, facts, folder = small_disk
    with full(folder):
        assert comes_true(lambda: "condor_master of T2_A has ended" in running.log_tail(50), 120, pause=0.2)
    with closing(sign_in(facts["url"], "cms-analyst")) as browser:
        headers = {"Authorization": f"Bearer {hub_token(browser, 'cms-analyst')}"}
        with httpx.Client(base_url=f"{facts['url']}services/af-controller/api/", headers=headers, timeout=60) as api:
            sites = lambda: api.get("sites").json()  # noqa: E731
            assert comes_true(lambda: all(site["cores_free"] for site in sites()), 60, pause=0.5), sites()
    assert "in a row" not in running.log_tail(50)
