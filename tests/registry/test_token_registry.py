"""Registries that want a token first, and ones that do not behave: what the hub gets, and what it never gives them."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from af_hub.errors import ImageRefused
from af_hub.registry import prover as proving
from af_hub.registry.client import MOST_BYTES, Access, RegistryClient
from af_hub.registry.proof import MANIFESTS, ImageProof
from af_hub.registry.prover import TYPED_AT_ONCE, Prover, this_platform
from af_hub.registry.reasons import ImageReason
from af_hub.registry.reference import read_reference
from af_hub.testing.fake_registry import FakeRegistry
from af_hub.testing.registry import make_image
from af_hub.testing.require import unavailable

LAB = make_image("1000:100", {"org.af-hub.jupyterhub": "6.1.1"}, platform=this_platform())


@dataclass(frozen=True)
class Known:
    """One registry of the policy."""

    address: str | None = None
    ca_file: str = ""
    credentials_file: str = ""


@dataclass(frozen=True)
class Listed:
    container: str


@dataclass
class Rules:
    """What of the policy counts here."""

    registries: dict[str, Known] = field(default_factory=dict)
    images: dict[str, Listed] = field(default_factory=dict)
    unnumbered_user: str = "set"
    minimum_jupyterhub: str = "4.0"
    own_images_per_hour: int = 30

    @property
    def sessions(self) -> "Rules":
        return self


def prover_for(registry: FakeRegistry, credentials: Path | None = None, **more: object) -> Prover:
    known = Known(registry.url, credentials_file=str(credentials or ""))
    return Prover(lambda: Rules({"reg.test": known}), **more)


async def refusal_of(prover: Prover, name: str) -> ImageRefused:
    with pytest.raises(ImageRefused) as refusal:
        await prover.prove(name)
    assert "reg.test" in str(refusal.value) or refusal.value.reason == ImageReason.NAME
    return refusal.value


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "credentials").write_text("hub:pass:word\n")
    (tmp_path / "credentials").chmod(0o600)
    return tmp_path / "credentials"


@pytest.fixture
def people() -> Mapping[str, str]:
    return {"hub": "pass:word"}


async def test_anybody_s_token_opens_what_is_public() -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        proof = await prover_for(registry).prove("reg.test/cms/lab:1")
        assert (proof.pinned, proof.uid, proof.gid) == (f"reg.test/cms/lab@{LAB.digest}", 1000, 100)
        assert [path.partition("?")[0] for path, _ in registry.asked] == [
            "/v2/cms/lab/manifests/1",
            "/token",
            "/v2/cms/lab/manifests/1",
            f"/v2/cms/lab/blobs/{json.loads(LAB.manifest)['config']['digest']}",
        ]
        assert not any(sent.startswith("Basic") for _, sent in registry.asked)


async def test_a_private_image_wants_the_facility_s_credentials(secret: Path, people: dict[str, str]) -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}, people, {"cms/lab"}) as registry:
        assert (await prover_for(registry, secret).prove("reg.test/cms/lab:1")).digest == LAB.digest
        assert [sent for path, sent in registry.asked if path.startswith("/token")] == ["Basic aHViOnBhc3M6d29yZA=="]
        assert not any(sent.startswith("Basic") for path, sent in registry.asked if not path.startswith("/token"))
        refused = await refusal_of(prover_for(registry), "reg.test/cms/lab:1")
        assert refused.reason == ImageReason.UNREADABLE and "reg.test does not show reg.test/cms/lab:1" in str(refused)


@pytest.mark.parametrize(
    "content, mode",
    [
        pytest.param("hub:wrong", 0o600, id="a wrong password"),
        pytest.param("hub:pass:word", 0o604, id="everybody reads it"),
        pytest.param("hub", 0o600, id="no password"),
        pytest.param("hub:a\nb:c", 0o600, id="two lines"),
        pytest.param("", 0o600, id="empty"),
        pytest.param(None, 0o600, id="no file"),
    ],
)
async def test_credentials_that_are_not_right(
    tmp_path: Path, people: dict[str, str], content: str | None, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    async with FakeRegistry({("cms/lab", "1"): LAB}, people, {"cms/lab"}) as registry:
        refused = await refusal_of(prover_for(registry, file), "reg.test/cms/lab:1")
    assert refused.reason == ImageReason.UNREADABLE
    assert "pass:word" not in caplog.text and "wrong" not in caplog.text + str(refused)


async def test_what_is_not_there() -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        refused = await refusal_of(prover_for(registry), "reg.test/cms/lab:2")
        assert refused.reason == ImageReason.MISSING and "reg.test/cms/lab:2 is not there" in str(refused)


@pytest.mark.parametrize(
    "realm",
    [
        pytest.param("http://127.0.0.1:1/token", id="another port"),
        pytest.param("http://169.254.169.254/token", id="the machine's own metadata"),
        pytest.param("https://127.0.0.1/token", id="another scheme"),
        pytest.param("https://evil.test/token", id="another host"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("no address", id="no address"),
    ],
)
async def test_a_token_is_asked_for_nowhere_else(realm: str, secret: Path, people: dict[str, str]) -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}, people, realm=realm) as registry:
        refused = await refusal_of(prover_for(registry, secret), "reg.test/cms/lab:1")
        assert refused.reason == ImageReason.UNREADABLE
        assert registry.asked == [("/v2/cms/lab/manifests/1", "")]


async def test_another_server_is_never_asked_in_the_registry_s_name(secret: Path) -> None:
    """Neither by a challenge nor by redirects; a redirect within the registry is followed."""
    async with FakeRegistry({("cms/lab", "1"): LAB}) as victim:
        for to in (
            f"{victim.url}/v2/cms/lab/manifests/1",
            "http://169.254.169.254/",
            "//127.0.0.1:1/",
            "file:///etc/passwd",
        ):
            moved = web.Response(status=307, headers={"Location": to})
            async with FakeRegistry(behave=lambda _, moved=moved: moved) as registry:
                refused = await refusal_of(prover_for(registry, secret), "reg.test/cms/lab:1")
            assert refused.reason == ImageReason.AWAY and "does not answer as a registry does" in str(refused)
        assert victim.asked == []


async def test_redirects_within_the_registry_are_followed_a_few_times() -> None:
    def turn(request: web.Request) -> web.Response | None:
        turns = int(request.query.get("turn", 0))
        if turns < most:
            return web.Response(status=302, headers={"Location": f"{request.path}?turn={turns + 1}"})
        return None

    async with FakeRegistry({("cms/lab", "1"): LAB}, behave=turn) as registry:
        most = 2
        assert (await prover_for(registry).prove("reg.test/cms/lab:1")).digest == LAB.digest
        most = 99
        assert (await refusal_of(prover_for(registry), "reg.test/cms/lab:1")).reason == ImageReason.AWAY
        assert len([path for path, _ in registry.asked if "turn=" in path]) < 15


def answer(status: int = 200, body: bytes = b"", kind: str = MANIFESTS[0]) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    "behave, reason",
    [
        pytest.param(lambda _: answer(401), "image-unreadable", id="401 without a challenge"),
        pytest.param(lambda _: answer(403), "image-unreadable", id="403"),
        pytest.param(lambda _: answer(404), "image-missing", id="404"),
        pytest.param(lambda _: answer(429), "registry-away", id="429"),
        pytest.param(lambda _: answer(500), "registry-away", id="500"),
        pytest.param(lambda _: answer(302), "registry-away", id="a redirect to nowhere"),
        pytest.param(lambda _: answer(204), "registry-away", id="another status"),
        pytest.param(lambda _: answer(body=b"<html>"), "registry-away", id="a web page"),
        pytest.param(lambda _: answer(body=b" " * (MOST_BYTES + 1)), "registry-away", id="too much"),
        pytest.param(lambda _: answer(body=b"{}", kind="text/plain"), "image-none", id="no manifest"),
        pytest.param(
            lambda _: web.Response(
                body=LAB.manifest, headers={"Content-Type": MANIFESTS[0], "Content-Encoding": "gzip"}
            ),
            "registry-away",
            id="it says compressed what is not",
        ),
    ],
)
async def test_registries_that_do_not_behave(behave: object, reason: str) -> None:
    async with FakeRegistry(behave=behave) as registry:  # type: ignore[arg-type]
        refused = await refusal_of(prover_for(registry), "reg.test/cms/lab:1")
    assert refused.reason == reason and str(refused).endswith(".") and len(str(refused)) < 200


async def test_a_registry_that_never_answers_does_not_hold_anybody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "PROOF_SECONDS", 0.05)
    held = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        refused = await refusal_of(Prover(lambda: Rules({"reg.test": Known(url)})), "reg.test/cms/lab:1")
        held.set()
    assert refused.reason == ImageReason.AWAY and "does not answer now" in str(refused)


async def test_who_types_many_images_does_not_hold_up_the_list() -> None:
    """Some questions about such images are asked at a time; those about the list do not wait for them."""
    held, now, most = asyncio.Event(), 0, 0

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        full.set() if now == TYPED_AT_ONCE else None
        await held.wait()
        writer.close()

    full = asyncio.Event()
    async with (
        await asyncio.start_server(hold, "127.0.0.1", 0) as slow,
        FakeRegistry({("cms/lab", "1"): LAB}) as registry,
    ):
        url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}"
        rules = Rules({"slow.test": Known(url), "reg.test": Known(registry.url)}, {"lab": Listed("reg.test/cms/lab:1")})
        prover = Prover(lambda: rules)
        typed = [asyncio.create_task(prover.prove(f"slow.test/a:{tag}")) for tag in range(2 * TYPED_AT_ONCE)]
        await full.wait()
        assert (await prover.prove("reg.test/cms/lab:1")).digest == LAB.digest
        assert most == TYPED_AT_ONCE
        held.set()
        assert {type(found) for found in await asyncio.gather(*typed, return_exceptions=True)} == {ImageRefused}


async def test_what_one_person_has_asked_is_counted_and_nothing_else() -> None:
    now = 0.0
    images = {("cms/lab", str(tag)): LAB for tag in range(9)}
    async with FakeRegistry(images) as registry:
        rules = Rules({"reg.test": Known(registry.url)}, {"lab": Listed("reg.test/cms/lab:8")}, own_images_per_hour=3)
        prover = Prover(lambda: rules, clock=lambda: now)

        async def ask(tag: object, username: str = "ada") -> str:
            try:
                return (await prover.prove(f"reg.test/cms/lab:{tag}", username=username)).digest
            except ImageRefused as refusal:
                return f"{refusal.reason}: {refusal}"

        await asyncio.gather(*(ask(0) for _ in range(20)))  # in flight: one question
        assert [await ask(0), await ask(8)] == [LAB.digest] * 2  # remembered, and of the list
        assert (await ask("gone")).startswith("image-missing")
        assert await ask(2) == LAB.digest
        before = len(registry.asked)
        refused = await ask(3)
        assert refused.startswith("images-too-many: ") and refused.endswith("lab:3 can be tried again in 1200 s.")
        assert len(registry.asked) == before
        assert await ask(3, "bob") == LAB.digest
        assert await ask(3) == LAB.digest, "what bob had asked is known"
        assert (await ask(4)).startswith("images-too-many")
        now = 1200.0
        assert await ask(4) == LAB.digest
        assert (await ask(5)).startswith("images-too-many")
        rules.own_images_per_hour = 3600
        now += 1
        assert await ask(5) == LAB.digest, "the policy of this moment counts"


async def test_a_registry_that_is_not_asked_is_not_asked() -> None:
    proof = await Prover(lambda: Rules({"reg.test": Known("")})).prove("reg.test/cms/lab:1")
    assert (proof.pinned, proof.digest) == ("reg.test/cms/lab:1", "") and proof.remarks


async def test_no_name_asks_nobody() -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        assert (await refusal_of(prover_for(registry), "reg.test/cms/lab:1\n")).reason == ImageReason.NAME
        assert registry.asked == []


async def test_the_same_image_is_asked_for_once_by_many_and_for_a_while() -> None:
    now = 0.0
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        prover = prover_for(registry, clock=lambda: now)
        proofs = await asyncio.gather(*[prover.prove("reg.test/cms/lab:1") for _ in range(30)])
        assert len(set(map(id, proofs))) == 1 and len(registry.asked) == 4
        now = 59.0
        await prover.prove("reg.test/cms/lab:1")
        assert len(registry.asked) == 4
        now = 61.0
        await prover.prove("reg.test/cms/lab:1")
        assert len(registry.asked) == 8
        now = 1e9
        for _ in range(2):
            await prover.prove(f"reg.test/cms/lab@{LAB.digest}")
        assert len(registry.asked) == 12


async def test_who_goes_away_takes_nothing_from_who_waits() -> None:
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        prover = prover_for(registry)
        first, second = (asyncio.create_task(prover.prove("reg.test/cms/lab:1")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).digest == LAB.digest and len(registry.asked) == 4


async def test_a_moved_tag_is_another_image() -> None:
    now, moved = 0.0, make_image("1001", platform=this_platform())
    async with FakeRegistry({("cms/lab", "1"): LAB}) as registry:
        prover = prover_for(registry, clock=lambda: now)
        before = await prover.prove("reg.test/cms/lab:1")
        registry.images["cms/lab", "1"] = moved
        now = 61.0
        after = await prover.prove("reg.test/cms/lab:1")
        assert (before.uid, after.uid) == (1000, 1001) and before.pinned != after.pinned


async def test_while_the_registry_is_away_the_list_starts_and_nothing_else() -> None:
    now = 0.0
    down = False
    async with FakeRegistry({("cms/lab", "1"): LAB}, behave=lambda _: answer(503) if down else None) as registry:
        rules = Rules(
            {"reg.test": Known(registry.url)}, {"lab": Listed("reg.test/cms/lab:1"), "odd": Listed("NO NAME")}
        )
        prover = Prover(lambda: rules, clock=lambda: now)
        good = await prover.prove("reg.test/cms/lab:1")
        now, down = 1e6, True
        assert await prover.prove("reg.test/cms/lab:1") == good
        rules.minimum_jupyterhub = "7"
        assert (await refusal_of(prover, "reg.test/cms/lab:1")).reason == ImageReason.OLD, (
            "the policy counts all the same"
        )
        rules.minimum_jupyterhub, rules.images = "4.0", {}
        assert (await refusal_of(prover, "reg.test/cms/lab:1")).reason == ImageReason.AWAY
        down = False
        assert (await prover.prove("reg.test/cms/lab:1")).digest == good.digest


async def test_a_refusal_is_not_remembered() -> None:
    async with FakeRegistry() as registry:
        prover = prover_for(registry)
        assert (await refusal_of(prover, "reg.test/cms/lab:1")).reason == ImageReason.MISSING
        registry.images["cms/lab", "1"] = LAB
        assert isinstance(await prover.prove("reg.test/cms/lab:1"), ImageProof)


async def test_an_address_where_nobody_listens() -> None:
    rules = Rules({"reg.test": Known("http://127.0.0.1:1")})
    refused = await refusal_of(Prover(lambda: rules), "reg.test/cms/lab:1")
    assert refused.reason == ImageReason.AWAY and "no connection" in str(refused)
    other = Rules({"reg.test": Known("https://127.0.0.1:1", ca_file="/nowhere.pem")})
    refused = await refusal_of(Prover(lambda: other), "reg.test/cms/lab:1")
    assert refused.reason == ImageReason.UNREADABLE and "not set up rightly" in str(refused)


async def test_what_a_registry_says_when_it_breaks_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def break_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX\x1b[2J forged: x\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(break_, "127.0.0.1", 0) as broken:
        url = f"http://127.0.0.1:{broken.sockets[0].getsockname()[1]}"
        await refusal_of(Prover(lambda: Rules({"reg.test": Known(url)})), "reg.test/cms/lab:1")
    (said,) = [record.getMessage() for record in caplog.records if record.name == "af_hub.registry.client"]
    assert said.isprintable(), said


def test_authorities_are_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    bundle = ssl.get_default_verify_paths().cafile
    authority = (Path(bundle).read_text() if bundle else "").partition("-----END CERTIFICATE-----")
    if not authority[1]:
        unavailable("this machine has no file of authorities")
    file = tmp_path / "ca.pem"
    file.write_text(f"{authority[0]}{authority[1]}\n")
    client = RegistryClient(read_reference("reg.test/a"), Access("https://reg.test", str(file)))
    first = client._trust()
    assert client._trust() is first
    file.write_text("none")
    with pytest.raises(ImageRefused, match="not set up rightly"):
        client._trust()
