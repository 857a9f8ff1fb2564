"""A real origin and a real cache that ask for tokens: who reads protected data, through whom, and what the others are told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from reading import read

from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.testing.iam import DemoIAM, in_thread
from af_hub.testing.iam_authority import ISSUER, Authority
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.process import Daemon, comes_true
from af_hub.testing.require import unavailable
from af_hub.testing.xrootd_tokens import ProtectedService, open_protected_service, policy_of, write_rules

pytestmark = pytest.mark.real

SIZE = 200_000
PEOPLE = [DemoUser(name, f"5f2c1b1e-0000-4000-8000-{name:0>12}", groups=("/cms",)) for name in ("ada", "bob")]
DENIED = "[3010]"
SCOPE = "openid wlcg.groups storage.read:/"
STRANGER = "https://stranger.af-hub.test/"
EVERY = 0.2

Read = Callable[..., dict]

# Opens what it is told, line by line, in one process, and so on one connection as long as nobody has it make another.
OPENER = """
import json, sys
from XRootD import client
for line in sys.stdin:
    file = client.File()
    status, _ = file.open(line.strip())
    answer = [status.ok, status.message.strip(), file.get_property("DataServer") if status.ok else ""]
    if status.ok:
        file.close()
    print(json.dumps(answer), flush=True)
import os; os._exit(0)
"""
# Opens the first that it is told, and reads of it each time that it is told more.
READER = """
import json, os, sys
from XRootD import client
from XRootD.client.flags import OpenFlags
file, opened = client.File(), False
for number, line in enumerate(sys.stdin):
    if not opened:
        status, _ = file.open(line.strip(), OpenFlags.READ)
        opened = True
    if status.ok:
        status, data = file.read(number * 1000, 1000)
    print(json.dumps([status.ok, status.message.strip(), ""]), flush=True)
os._exit(0)
"""
# Tries every other request on one file and its folder; tells what was answered with more than a refusal.
ASKER = """
import json, os, sys
from XRootD import client
from XRootD.client.flags import OpenFlags, PrepareFlags, QueryCode
server, prefix, folder = sys.argv[1:]
there, path = client.FileSystem(server), f"{prefix}{folder}/one"
tries = {
    "stat": lambda: there.stat(path),
    "statvfs": lambda: there.statvfs(path),
    "list": lambda: there.dirlist(f"{prefix}{folder}"),
    "locate": lambda: there.locate(path, OpenFlags.REFRESH),
    "deeplocate": lambda: there.deeplocate(path, OpenFlags.REFRESH),
    "checksum": lambda: there.query(QueryCode.CHECKSUM, path),
    "attributes": lambda: there.query(QueryCode.XATTR, path),
    "user attributes": lambda: there.list_xattr(path),
    "opaque file": lambda: there.query(QueryCode.OPAQUEFILE, path),
    "prepare": lambda: there.prepare([path], PrepareFlags.STAGE),
    "set attribute": lambda: there.set_xattr(path, [("a", "b")]),
    "remove": lambda: there.rm(path),
    "move away": lambda: there.mv(path, f"{prefix}/store/two"),
    "move over": lambda: there.mv(f"{prefix}/store/open", path),
    "truncate": lambda: there.truncate(path, 1),
    "mode": lambda: there.chmod(path, 0o777),
    "folder": lambda: there.mkdir(f"{prefix}{folder}/more"),
    "remove folder": lambda: there.rmdir(f"{prefix}{folder}"),
    "write": lambda: client.File().open(f"{server}/{path}", OpenFlags.UPDATE),
    "write new": lambda: client.File().open(f"{server}/{path}x", OpenFlags.NEW),
    "copy": lambda: client.File().open(f"{server}/{path}?tpc.key=0123456789&tpc.dst=localhost&tpc.stage=copy"),
    "read": lambda: client.File().open(f"{server}/{path}"),
}
answers = {}
for name, attempt in tries.items():
    status, found = attempt()
    if status.ok:
        answers[name] = str(found)
print(json.dumps(answers), flush=True)
os._exit(0)
"""
# As a worker has it: a signpost before the cache of its site.
WORKER = """
import asyncio, os, sys
from af_hub.session.signpost import signpost_before
async def main():
    async with signpost_before(os.environ):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", sys.argv[1])
        sys.exit(await child.wait())
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def issuers() -> tuple[Authority, Authority]:
    """The one whose tokens open the data, and another one with the same people."""
    return Authority(PEOPLE, []), Authority(PEOPLE, [])


@pytest.fixture(scope="module")
def service(
    issuers: tuple[Authority, Authority], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProtectedService]:
    folder = tmp_path_factory.mktemp("protected")
    for name in ("store/open", "protected/one", "protected/ada/one", "protected/bob/one", "protectedness/one"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(os.urandom(SIZE))
    try:
        with open_protected_service(
            folder, issuers[0].keys.published(), folder / "data", policy_of([ISSUER])
        ) as service:
            yield service
    except Unavailable as reason:
        unavailable(str(reason))


@pytest.fixture
def environment(service: ProtectedService, tmp_path: Path) -> dict[str, str]:
    """What a session has, but for its token."""
    return service.client_environment(tmp_path / "session")


@pytest.fixture
def reader(service: ProtectedService, environment: dict[str, str], tmp_path: Path) -> Read:
    """Reads a file as a process of a session does; through the cache, or directly with ``cache=False``."""

    def through(path: str, token: str | None = None, cache: bool = True, mode: int = 0o600) -> dict:
        own = dict(environment) if cache else environment | {"XROOT_PROXY": ""}
        if token is not None:
            own["BEARER_TOKEN_FILE"] = str(write_private(tmp_path / "token", token))
            (tmp_path / "token").chmod(mode)
        return read(f"{service.origin.url}//{path}", own)

    return through


@contextmanager
def opening(program: list[str], environment: dict[str, str]) -> Iterator[Callable[[str], list]]:
    """A process that opens one address after the other."""
    with subprocess.Popen(
        [sys.executable, "-c", *program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        told, says = process.stdin, process.stdout

        def opened(url: str) -> list:
            told.write(f"{url}\n")
            told.flush()
            return json.loads(says.readline())

        yield opened
        told.close()
        process.wait(20)


def host_and_port(server: object) -> str:
    return f"{server.host}:{server.port}"  # type: ignore[attr-defined]


def test_a_good_token_reads_through_the_cache_and_directly(
    service: ProtectedService, issuers: tuple[Authority, Authority], reader: Read
) -> None:
    for cache in (True, False):
        answer = reader("protected/one", issuers[0].mint("ada", SCOPE), cache)
        server = service.cache if cache else service.origin
        assert (answer["bytes"], answer["server"]) == (SIZE, host_and_port(server)), answer
        assert reader("store/open", None, cache)["bytes"] == SIZE, "public data need no token"
        assert DENIED in reader("protected/one", None, cache)["message"], "also when the cache has it"


def test_a_new_token_is_taken_by_a_process_that_has_logged_in_with_another(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    """Without the signpost the connection would go on with the first token, and be refused until it ends."""
    url, file = f"{service.origin.url}//protected/one", tmp_path / "token"
    write_private(file, issuers[0].mint("ada", "openid storage.read:/elsewhere"))
    with opening([WORKER, OPENER], environment | {"BEARER_TOKEN_FILE": str(file)}) as opened:
        assert DENIED in opened(url)[1]
        write_private(file, issuers[0].mint("ada", SCOPE))
        ok, message, server = opened(url)
        assert ok and server.endswith(f"@{host_and_port(service.cache)}"), message


@pytest.mark.long
def test_the_origin_takes_tokens_while_the_cache_is_down(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    url, file = f"{service.origin.url}//protected/one", tmp_path / "token"
    write_private(file, issuers[0].mint("ada", SCOPE))
    service.cache.stop()
    try:
        with opening([WORKER, OPENER], environment | {"BEARER_TOKEN_FILE": str(file)}) as opened:
            ok, message, server = opened(url)
            assert ok and server.endswith(f"@{host_and_port(service.origin)}"), message
            write_private(file, issuers[0].mint("ada", "openid storage.read:/elsewhere"))
            assert DENIED in opened(url)[1], "the new token counts, for less too"
    finally:
        service.cache.start()


BAD: list[tuple[str, str, dict[str, object]]] = [
    ("expired", SCOPE, {"exp": int(time.time()) - 5}),
    ("not yet", SCOPE, {"nbf": int(time.time()) + 3600}),
    ("unknown issuer", SCOPE, {"iss": STRANGER}),
    ("for another audience", SCOPE, {"aud": "https://other.example.org"}),
    ("for nobody", SCOPE, {"aud": None}),
    ("no scope for data", "openid wlcg.groups", {}),
    ("scope of another path", "openid storage.read:/elsewhere", {}),
    ("scope of a name that begins alike", "openid storage.read:/prot", {}),
    ("may write only", "openid storage.create:/ storage.modify:/", {}),
    ("no profile", SCOPE, {"wlcg.ver": None}),
]


@pytest.mark.long
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "origin"])
@pytest.mark.parametrize("scope, changes", [pytest.param(*rest, id=name) for name, *rest in BAD])
def test_a_token_that_is_not_good_opens_nothing_protected(
    service: ProtectedService,
    issuers: tuple[Authority, Authority],
    reader: Read,
    scope: str,
    changes: dict[str, object],
    cache: bool,
) -> None:
    assert reader("protected/one", issuers[0].mint("ada", SCOPE), cache)["ok"], "the cache has the file"
    answer = reader("protected/one", issuers[0].mint("ada", scope, **changes), cache)
    assert DENIED in answer["message"] and answer["seconds"] < 5, answer
    assert reader("store/open", issuers[0].mint("ada", scope, **changes), cache)["ok"], "nobody's rights are left"


@pytest.mark.long
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "origin"])
def test_signatures_and_files_that_do_not_count(
    issuers: tuple[Authority, Authority], reader: Read, cache: bool
) -> None:
    iam, other = issuers
    good = iam.mint("ada", SCOPE)
    stolen = other.keys.kids | {}
    try:
        other.keys.kids = dict(iam.keys.kids)
        forged = other.mint("ada", SCOPE)
    finally:
        other.keys.kids = stolen
    head, body, signature = good.split(".")
    for name, token in {
        "another's key": other.mint("ada", SCOPE),
        "another's key under the right name": forged,
        "no signature": iam.mint("ada", SCOPE, algorithm="none"),
        "signature of another token": ".".join([head, body, iam.mint("bob", SCOPE).split(".")[2]]),
        "cut": f"{head}.{body}.{signature[:-9]}",
        "no token": "x" * 100,
        "nothing": "",
        "longer than XRootD takes": iam.mint("ada", SCOPE, padding="x" * 4096),
    }.items():
        answer = reader("protected/one", token, cache)
        assert DENIED in answer["message"] and answer["seconds"] < 5, (name, answer)
    assert DENIED in reader("protected/one", good, cache, mode=0o440)["message"], "a file that others may read"
    assert reader("protected/one", good, cache)["ok"]


@pytest.mark.long
def test_the_check_says_why(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    """In processes of their own, as XRootD reads its environment once."""
    url, file = f"{service.origin.url}//protected/one", tmp_path / "token"
    code = "import os; from af_hub.client import check\nfor row in check.look_at_data(os.environ): print(row.sentence, flush=True)\nos._exit(0)"

    def check(own: dict[str, str]) -> str:
        argv = [sys.executable, "-c", code]
        return subprocess.run(argv, env=own, capture_output=True, text=True, timeout=60, check=True).stdout

    for token, mode, sentence in (
        (None, 0o600, "There is no token in"),
        (issuers[0].mint("ada", SCOPE, lifetime=-60), 0o600, "It wants a token. The token expired"),
        (issuers[0].mint("ada", SCOPE), 0o440, f"Type: chmod 600 {file}."),
        (issuers[0].mint("ada", "openid"), 0o600, "Your token may not read data (its scopes: openid)"),
        (issuers[0].mint("ada", "storage.read:/a"), 0o600, "Your token reads /a and not this."),
        (issuers[1].mint("ada", SCOPE, iss=STRANGER), 0o600, "the server does not take it for this path"),
    ):
        write_private(file, token or "")
        file.chmod(mode)
        if token is None:
            file.unlink()
        own = {"BEARER_TOKEN_FILE": str(file), "AF_DATASETS": json.dumps({"mine": [url]})}
        said = check(environment | own)
        assert f"You may not read {url}. " in said and sentence in said
    without = {name: value for name, value in environment.items() if name != "X509_CERT_DIR"}
    assert "XRootD finds no certificate authorities here" in check(without | own)


@pytest.mark.long
def test_paths_around_the_protected_one(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    file = write_private(tmp_path / "token", issuers[0].mint("ada", SCOPE))
    origin, cache = host_and_port(service.origin), service.cache.url
    past = [f"{cache}//root://{origin}//store/../protected/one", f"{cache}//root://x@{origin}//protected/one"]
    past += [f"{cache}//root:/{origin}/store/%2e%2e/protected/one", f"{cache}//protected/one"]
    past += [
        f"{service.origin.url}//store/../protected/one",
        f"{service.origin.url}//protected/one?authz=Bearer%20x.y.z",
    ]
    with opening([OPENER], environment | {"XROOT_PROXY": ""}) as opened:
        assert [opened(url)[0] for url in past] == [False] * len(past)
        assert opened(f"{cache}//root://{origin}//store/open")[0]
    with opening([OPENER], environment | {"XROOT_PROXY": "", "BEARER_TOKEN_FILE": str(file)}) as opened:
        for scheme in ("root", "xroot"):
            assert opened(f"{cache}//{scheme}://{origin}//protected//one")[0]
        assert not opened(f"{service.origin.url}//protectedness/one")[0]
        assert not opened(f"{cache}//root://{origin}//protectedness/one")[0]


@pytest.mark.long
@pytest.mark.parametrize("through", ["origin", "cache"])
def test_every_other_request(
    service: ProtectedService,
    issuers: tuple[Authority, Authority],
    environment: dict[str, str],
    tmp_path: Path,
    through: str,
) -> None:
    at_cache = through == "cache"
    server = service.cache.url if at_cache else service.origin.url
    prefix = f"/root:/{host_and_port(service.origin)}" if at_cache else ""

    def answered(token: str, folder: str) -> dict[str, str]:
        file = write_private(tmp_path / "token", token)
        own = environment | {"XROOT_PROXY": "", "BEARER_TOKEN_FILE": str(file)}
        own |= {"XRD_CONNECTIONRETRY": "1", "XRD_CONNECTIONWINDOW": "1", "XRD_REQUESTTIMEOUT": "10"}
        asked = [sys.executable, "-c", ASKER, server, prefix, folder]
        done = subprocess.run(asked, env=own, stdout=subprocess.PIPE, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    everything = "storage.read:/ storage.modify:/ storage.create:/ storage.stage:/"
    mine = answered(issuers[0].mint("ada", everything), "/protected/ada")
    looks = {"stat", "statvfs", "list", "locate", "deeplocate", "checksum", "attributes", "user attributes", "prepare"}
    assert {"read", "stat"} <= mine.keys() <= {"read", *looks}
    for token in ("", issuers[1].mint("ada", everything), issuers[0].mint("ada", "storage.read:/protected/ada")):
        assert answered(token, "/protected/bob") == {}


@pytest.mark.long
def test_many_clients_of_two_people_have_their_own_rights(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    """At one time, on many connections, also for what the other has just had the cache fetch."""
    rounds, origin = 30, host_and_port(service.origin)
    program = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from XRootD import client
own, other, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def opens(url):
    with client.File() as file:
        return file.open(url)[0].ok
with ThreadPoolExecutor(10) as pool:
    mine = list(pool.map(opens, [own.format(number) for number in range(rounds)]))
    theirs = list(pool.map(opens, [other.format(number) for number in range(rounds)]))
print(sum(mine), sum(theirs), flush=True)
os._exit(0)
"""
    children = []
    for who, other in (("ada", "bob"), ("bob", "ada")):
        file = write_private(tmp_path / who, issuers[0].mint(who, f"openid storage.read:/protected/{who}"))
        urls = [
            f"root://{who[0]}{{}}@{host_and_port(service.cache)}//root://{origin}//protected/{name}/one"
            for name in (who, other)
        ]
        own = environment | {"XROOT_PROXY": "", "BEARER_TOKEN_FILE": str(file)}
        argv = [sys.executable, "-c", program, *urls, str(rounds)]
        children.append(subprocess.Popen(argv, env=own, stdout=subprocess.PIPE, text=True))
    assert [child.communicate(timeout=120)[0] for child in children] == [f"{rounds} 0\n"] * 2


@pytest.mark.long
def test_an_expired_token_ends_within_a_minute_and_a_new_one_goes_on(
    service: ProtectedService, issuers: tuple[Authority, Authority], environment: dict[str, str], tmp_path: Path
) -> None:
    """A server takes what it found in a token for sixty seconds; a file that is open is read on."""
    url, file = f"{service.origin.url}//protected/one", tmp_path / "token"
    write_private(file, issuers[0].mint("ada", SCOPE, lifetime=5))
    expires = time.time() + 5
    with opening([WORKER, OPENER], environment | {"BEARER_TOKEN_FILE": str(file)}) as opened:
        assert opened(url)[0]
        assert comes_true(lambda: not opened(url)[0], 75)
        assert 0 <= time.time() - expires <= 65
        assert DENIED in opened(url)[1]
        write_private(file, issuers[0].mint("ada", SCOPE))
        assert opened(url)[0]


@pytest.mark.long
@pytest.mark.parametrize("fresh", [True, False])
def test_a_file_that_is_open_when_the_cache_starts_anew(
    service: ProtectedService,
    issuers: tuple[Authority, Authority],
    environment: dict[str, str],
    tmp_path: Path,
    fresh: bool,
) -> None:
    """The client logs in anew, with the token of then: it reads on, or is told within seconds that it may not."""
    url, file = f"{service.origin.url}//protected/one", tmp_path / "token"
    write_private(file, issuers[0].mint("ada", SCOPE))
    with opening([WORKER, READER], environment | {"BEARER_TOKEN_FILE": str(file)}) as read_on:
        assert read_on(url)[0]
        service.cache.stop()
        write_private(file, issuers[0].mint("ada", SCOPE, lifetime=600 if fresh else -60))
        service.cache.start()
        began = time.monotonic()
        ok, message, _ = read_on("more")
        assert ok == fresh and time.monotonic() - began < 25, message
        assert fresh or "[3010]" in message or "neither the cache" in message


@pytest.mark.long
def test_new_rules_are_in_force_within_a_minute(
    service: ProtectedService, issuers: tuple[Authority, Authority], reader: Read
) -> None:
    def put(path: str) -> None:
        write_rules(service.origin, policy_of([ISSUER], path))
        write_rules(service.cache, policy_of([ISSUER], path), service.origin)

    def ok(name: str, cache: bool) -> bool:
        # A token of its own each time: what a server has found in one, it takes for a minute.
        return reader(f"protected/{name}/one", issuers[0].mint("ada", SCOPE), cache)["ok"]

    try:
        put("/protected/bob")
        for cache in (True, False):
            assert comes_true(lambda: not ok("ada", cache), 75, pause=1)  # noqa: B023
            assert ok("bob", cache)
    finally:
        put("/protected")
    for cache in (True, False):
        assert comes_true(lambda: ok("ada", cache), 75, pause=1)  # noqa: B023


@pytest.mark.long
def test_a_key_that_the_issuer_has_rotated_counts_soon(service: ProtectedService, reader: Read, tmp_path: Path) -> None:
    """The program beside the servers asks the issuer; here five times a second, else twice a minute."""
    iam = DemoIAM(PEOPLE, [])
    with in_thread(iam):
        issuer = {"name": "demo", "issuer": ISSUER, "discovery": iam.discovery, "data_paths": ["/protected"]}
        about = {"facility": {"name": "AF", "contact": "c"}, "rules": [], "images": {}, "sizes": {}}
        policy = tmp_path / "facility.yaml"
        policy.write_text(yaml.safe_dump(about | {"issuers": [issuer]}))
        argv = [sys.executable, "-m", "af_hub.xrootd.watch", "--policy", str(policy), "--public", "/store"]
        argv += ["--origin", str(service.origin.secrets), "--cache", str(service.cache.secrets), service.origin.url]
        argv += ["--every", str(EVERY), "--ready-fd", "{ready_fd}"]
        watch = Daemon("watch", argv, tmp_path / "log").start()
        try:
            assert watch.ready()["keys"]
            assert comes_true(lambda: reader("protected/one", iam.mint("ada", SCOPE))["ok"], 5)
            old, before = iam.mint("bob", SCOPE), iam.mint("ada", SCOPE)
            iam.rotate_keys()
            new = iam.mint("ada", SCOPE)
            began = time.monotonic()
            assert comes_true(lambda: reader("protected/one", new)["ok"], 10)
            print(f"a token of the new key was good after {time.monotonic() - began:.1f} s")
            assert reader("protected/one", old)["ok"], "the issuer still publishes the old key"
            iam.keys.rotate(keep=False)
            assert comes_true(lambda: reader("protected/one", iam.mint("ada", SCOPE))["ok"], 10)
            assert DENIED in reader("protected/one", before)["message"], "nobody publishes that key any more"
            iam.down = True
            assert comes_true(lambda: "no keys of" in watch.log_tail(), 5)
            assert reader("protected/one", iam.mint("ada", SCOPE))["ok"], "an issuer that is away is borne"
        finally:
            watch.stop()
            service.bring_keys(iam.keys.published())
