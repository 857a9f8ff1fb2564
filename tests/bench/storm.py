"""``python -m tests.bench.storm``, as ``make bench-tokens`` runs it: everybody comes back at one moment, with tokens that have ended.

The hub was away for a night; a thousand people have a page or two open. Each asks at once, twice, as JupyterLab does: ours through the keeper,
plain oauthenticator through its ``refresh_user``, which JupyterHub calls for each request. One IAM, in a process of its own, answers
both in turn, after 50 ms; its refresh tokens rotate, and one that is used twice ends the login (RFC 9700). The event loop is watched all the time:
how much later than it wanted does a task come to its turn that sleeps 5 ms, again and again.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.fernet import Fernet
from oauthenticator.generic import GenericOAuthenticator
from rich.console import Console
from rich.markdown import Markdown
from tornado.httpclient import AsyncHTTPClient

from af_hub.errors import AFError
from af_hub.iam.claims import Claims
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.tokens.keeper import PARALLEL, Purpose, TokenKeeper
from af_hub.tokens.lifetime import AccessToken
from af_hub.tokens.store import Login, Store
from tests.bench.facility import CHECKOUT
from tests.bench.figures import table
from tests.bench.lag import most_of, watch

PAGE = CHECKOUT / "docs" / "_figures" / "token-storm.md"
REQUESTS = 2
"""Of one person, at one time."""


class Storm:
    """The IAM, and what it says of itself."""

    def __init__(self, people: int) -> None:
        argv = [sys.executable, "-m", "tests.bench.storm_iam", str(people)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
        self.facts = self._line()
        self.tokens: dict[str, list[str]] = self.facts.pop("tokens")

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def told(self) -> dict[str, Any]:
        """What it was asked since the last time."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@dataclass
class Run:
    """What one storm was like."""

    seconds: float = 0.0
    failed: int = 0
    lags: list[float] = field(default_factory=list)
    told: Mapping[str, Any] = field(default_factory=dict)
    void: int = 0

    @property
    def lag99(self) -> float:
        """Seconds that a task came late, at most, in 99 of 100 cases."""
        return most_of(self.lags)


async def measure(storm: Storm, ask: Callable[[str], Awaitable[bool]]) -> Run:
    """Everybody asks at once; ``ask`` says whether it went well."""
    before, run = storm.told()["void"], Run()
    watching = asyncio.create_task(watch(run.lags))
    began = time.perf_counter()
    went_well = await asyncio.gather(*(ask(name) for name in storm.tokens for _ in range(REQUESTS)))
    run.seconds, run.failed = time.perf_counter() - began, went_well.count(False)
    watching.cancel()
    run.told = storm.told()
    run.void = run.told["void"] - before
    return run


async def ours(storm: Storm, folder: Path) -> Run:
    """The keeper, started on the database that yesterday's hub left."""
    key, now = Fernet(Fernet.generate_key()), time.time()
    store = Store(folder / "keeper.sqlite", [key])
    for name, tokens in storm.tokens.items():
        store.write_claims(Claims(storm.facts["issuer"], f"sub-{name}", name, ("/cms",)), now - 40000)
        store.write_login(name, Login(tokens[0], AccessToken("old", now - 43600, now - 40000)))
    store.close()
    client = IAMClient(Discovery(storm.facts["issuer"], storm.facts["discovery"]), "hub", "s3cret")
    keeper = TokenKeeper(
        Store(folder / "keeper.sqlite", [key]),
        {storm.facts["issuer"]: client},
        lambda _: Purpose("openid profile wlcg.groups"),
    )

    async def ask(name: str) -> bool:
        """What a person's page and session agent want of the hub, until they have it; the agent asks again after a 503."""
        for _ in range(10):
            try:
                await keeper.claims(name, max_age=300)
                return bool(await keeper.access_token(name))
            except AFError:
                await asyncio.sleep(1)
        return False

    keeping = asyncio.create_task(keeper.keep_fresh())
    try:
        return await measure(storm, ask)
    finally:
        keeping.cancel()


class PlainUser:
    """As much of JupyterHub's user as oauthenticator wants."""

    def __init__(self, name: str, refresh_token: str) -> None:
        self.name = name
        self.auth_state = {
            "token_response": {"access_token": "old", "token_type": "Bearer"},
            "refresh_token": refresh_token,
        }

    async def get_auth_state(self) -> dict[str, Any]:
        """What was stored last."""
        return self.auth_state


async def plain(storm: Storm, _: Path) -> Run:
    """GenericOAuthenticator, with a client for as many requests at a time as there are people, so that it does not wait for itself."""
    url = storm.facts["url"]
    authenticator = GenericOAuthenticator(
        token_url=url + "token",
        userdata_url=url + "userinfo",
        client_id="hub",
        client_secret="s3cret",
        username_claim="preferred_username",
        enable_auth_state=True,
        allow_all=True,
        http_client=AsyncHTTPClient(force_instance=True, defaults={"request_timeout": 60, "connect_timeout": 60}),
    )
    logging.disable(logging.CRITICAL)  # it writes a line for each login that it loses
    users = {name: PlainUser(name, tokens[1]) for name, tokens in storm.tokens.items()}

    async def ask(name: str) -> bool:
        try:
            model = await authenticator.refresh_user(users[name], None)
        except Exception:
            return False
        if isinstance(model, dict):
            users[name].auth_state = model["auth_state"]  # as JupyterHub stores it
        return bool(model)

    return await measure(storm, ask)


@contextmanager
def weather(people: int) -> Any:
    """An IAM."""
    storm = Storm(people)
    try:
        yield storm
    finally:
        storm.close()


def row(name: str, run: Run) -> list[str]:
    """One line of the table."""
    asked = run.told["asked"]
    return [
        name,
        f"{run.seconds:.1f} s",
        str(asked.get("refresh_token", 0)),
        str(run.told["most"]),
        f"{run.lag99 * 1000:.0f} ms",
        f"{median(run.lags) * 1000:.0f} ms",
        str(run.failed),
        str(run.void),
    ]


HEAD = [
    "",
    "until all have been answered",
    "refreshes",
    "most requests at the IAM at once",
    "event loop late, 99 %",
    "event loop late, median",
    "requests that failed",
    "people who lost their login",
]


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storm", description=__doc__)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write the table into docs/_figures")
    parser.add_argument("--check", action="store_true", help="exit status 1 when ours is not as promised")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT) as folder, weather(asked.people) as storm:
        mine = asyncio.run(ours(storm, Path(folder)))
        theirs = asyncio.run(plain(storm, Path(folder)))
    text = table(HEAD, [row("AF Hub's keeper", mine), row("plain oauthenticator", theirs)])
    text += (
        f"\n{asked.people} people, {REQUESTS} requests each; oauthenticator made "
        f"{theirs.told['asked'].get('refresh_token', 0) / asked.people:.2f} refreshes a person, the keeper "
        f"{mine.told['asked'].get('refresh_token', 0) / asked.people:.2f}; its event loop was "
        f"{theirs.lag99 / max(mine.lag99, 1e-4):.1f} times as late.\n"
    )
    Console(width=160).print(Markdown(text))
    if asked.write:
        PAGE.write_text(text)
    good = (mine.told["asked"].get("refresh_token"), mine.failed, mine.void) == (asked.people, 0, 0)
    if asked.check and not (good and mine.told["most"] <= PARALLEL and mine.lag99 <= 0.05):
        sys.exit("the keeper is not as promised")


if __name__ == "__main__":
    main()
