"""A secret has no face: neither in the text of a record, nor in an exception, nor in what is told of a policy that cannot be."""

import ast
import dataclasses
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from seen import Secrets

import af_hub
from af_hub.errors import AFError, PolicyError
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.load import read_policy
from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_faults import Kind
from af_hub.testing.iam_oauth import DemoClient
from af_hub.testing.iam_tokens import DemoUser
from af_hub.testing.places import CONFIGURATION
from af_hub.tokens.flight import Flight, Purpose
from af_hub.tokens.keeper import TokenKeeper
from af_hub.tokens.store import Login, Store

SECRET_NAME = re.compile(
    r"token|secret|password|passwd|verifier|sealed|cookie|private|(^|_)(key|keys|code|pem|value)$", re.I
)
TEXT = re.compile(r"\b(str|bytes)\b")
# Names that sound like secrets and are none.
NO_SECRETS = {
    "af_hub.client.api.Way.key",  # a file's name
    "af_hub.client.hub.Code.key",
    "af_hub.client.hub.Code.user_code",  # what a person types
    "af_hub.client.logins.HubLogin.token_file",
    "af_hub.client.logins.HubLogin.token_mark",
    "af_hub.controller.api.ForwarderView.host_key",  # public keys
    "af_hub.controller.api.SessionKeys.ssh_public_key",
    "af_hub.controller.steps.Circumstances.tokens",  # a sentence about them
    "af_hub.forwarder.login.ForwarderAddress.host_key",
    "af_hub.iam.device.DeviceStart.user_code",
    "af_hub.iam.discovery.Metadata.token_endpoint",
    "af_hub.policy.issuers.Issuer.client_secret_file",
    "af_hub.session.controller.Credentials.host_key",
    "af_hub.session.signpost.Signpost.token_file",
    "af_hub.signin.IAMLoginHandler._verifier",  # no record, and has no text
    "af_hub.spawning.pod.SessionPod.secret",  # the name of one
    "af_hub.xrootd.watch.Watch._keys",
}


def shown_fields() -> Iterator[str]:
    """Every text of a dataclass or model of the package that stands in its ``repr``, but for those of the test doubles."""
    package = Path(af_hub.__file__).parent
    for path in package.rglob("*.py"):
        if "testing" in path.parts:
            continue
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for record in ast.parse(path.read_text()).body:
            if isinstance(record, ast.ClassDef) and is_record(record):
                yield from (f"{module}.{record.name}.{name}" for name in shown(record))


def is_record(found: ast.ClassDef) -> bool:
    return "Protocol" not in [ast.unparse(base) for base in found.bases]


def shown(record: ast.ClassDef) -> Iterator[str]:
    for line in record.body:
        if not isinstance(line, ast.AnnAssign) or not TEXT.search(ast.unparse(line.annotation)):
            continue
        if "repr=False" not in (ast.unparse(line.value) if line.value else ""):
            yield ast.unparse(line.target)


def test_records_do_not_show_their_secrets() -> None:
    everything = list(shown_fields())
    assert len(everything) > 200
    found = {one for one in everything if SECRET_NAME.search(one.rpartition(".")[2])}
    assert found == NO_SECRETS, "set repr=False, or say in NO_SECRETS that it is none"


@dataclasses.dataclass
class Bench:
    """The hub as a client of an IAM that fails, and one login."""

    iam: DemoIAM
    client: IAMClient
    store: Store
    keeper: TokenKeeper
    refresh_token: str = dataclasses.field(repr=False)

    async def attempts(self) -> AsyncIterator[BaseException]:
        """What comes of everything that the hub asks."""
        login = Login(self.refresh_token, scope="openid")
        flight = Flight(self.store, self.client, "ada", login, Purpose("openid"), True, 0.0)
        for asked in (
            lambda: self.client.redeem("code-of-a-login-" + "y" * 20, "https://hub/", "verifier-" + "z" * 40),
            lambda: self.client.refresh(self.refresh_token),
            lambda: self.client.redeem_device("device-code-" + "w" * 30),
            lambda: self.client.revoke(self.refresh_token),
            lambda: self.client.userinfo("access-token-of-ada-" + "x" * 20),
            flight._fly,
            lambda: self.keeper.access_token("ada"),
            lambda: self.keeper.purpose_token("ada", Purpose("openid", "somebody")),
        ):
            try:
                await asked()
            except AFError as error:
                yield error

    def secrets(self) -> Secrets:
        found = Secrets()
        found.add("refresh token", self.refresh_token)
        found.add("client secret", self.client.client_secret)
        found.add("client's password", f"{self.client.client_id}:{self.client.client_secret}")
        for name, letter in {
            "access-token-of-ada-": "x",
            "code-of-a-login-": "y",
            "verifier-": "z",
            "device-code-": "w",
        }.items():
            found.add(name, name + letter * 20)
        return found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    hub = DemoClient("hub", "client-secret-" + "v" * 20, (), ("openid", "offline_access"))
    async with DemoIAM([DemoUser("ada", "sub-ada")], [hub]) as iam:
        client = IAMClient(Discovery(iam.issuer, iam.discovery), hub.client_id, hub.client_secret)
        await client.discovery.metadata()
        store = Store(tmp_path / "keeper.sqlite", [Fernet(Fernet.generate_key())])
        keeper = TokenKeeper(store, {iam.issuer: client}, lambda _: Purpose("openid"))
        token = iam.grant(hub, "ada", hub.scopes)
        await keeper.enrol(Claims(iam.issuer, "sub-ada", "ada"), token)
        yield Bench(iam, client, store, keeper, token)


def told(error: BaseException, with_locals: bool) -> str:
    """All that a log, a debugger or a tool that collects errors would show of an exception and those before it."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    texts = [f"{one!r} {one} {one.args} {vars(one)} {getattr(one, '__notes__', '')}" for one in chain]
    return "\n".join(
        texts + list(traceback.TracebackException.from_exception(error, capture_locals=with_locals).format())
    )


@pytest.mark.parametrize("kind", ["echo", "tells", "down", "busy", "refuses", "list", "html", "gone", "cut"])
async def test_exceptions_hold_no_secret(bench: Bench, kind: Kind) -> None:
    bench.iam.faults = dict.fromkeys(("token", "userinfo", "revoke"), kind)
    errors = [error async for error in bench.attempts()]
    assert len(errors) >= 7 or kind == "cut"
    for error in errors:
        assert not (found := bench.secrets().within(told(error, True).encode())), (found, told(error, True))


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("client_secret: {}", id="a secret in the file"),
        pytest.param("client_id: [{}]", id="in a list"),
        pytest.param("client_id: {{a: {}}}", id="in an object"),
        pytest.param("client_secret_file: [{}]", id="instead of a file's name"),
        pytest.param("password: {}", id="under another name"),
    ],
)
@pytest.mark.parametrize("written", ["${IAM_CLIENT_SECRET}", "client-secret-of-the-hub"])
def test_mistakes_of_a_policy_do_not_show_a_secret(more: str, written: str) -> None:
    """Somebody writes the secret where only the name of its file belongs."""
    secret = "client-secret-of-the-hub"
    policy = (CONFIGURATION / "facility.yaml").read_text()
    changed = policy.replace("issuers:\n  - ", f"issuers:\n  - {more.format(written)}\n    ", 1)
    assert changed != policy
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", changed), "x") | {"IAM_CLIENT_SECRET": secret}
    with pytest.raises(PolicyError) as caught:
        read_policy(changed, "facility.yaml", environ)
    assert secret not in told(caught.value, False), str(caught.value)
