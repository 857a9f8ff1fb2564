"""``af``: the facility from a terminal, on a laptop or in a session.

::

    af login https://hub.example.org/     sign in, with a code that is typed into a browser anywhere
    af whoami                             who you are here, and what you may do
    af token [--file]                     a fresh access token of the IAM, printed or put where tools look for it
    af submit FILE                        a submit description of your own to the pool
    af logout                             give everything back

Exit status: 0 done; 1 hub or IAM do not answer; 2 mistyped; 3 refused; 4 not logged in, or no longer; 130 interrupted. With ``--json`` each line
that is printed is an object, an error too. Needs httpx and the standard library; ``af submit`` HTCondor's library too.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from af_hub.client.hub import POOL_KEYS, Hub
from af_hub.client.logins import HubLogin, Logins, login_file, mark_of, read_address, session_login
from af_hub.client.whoami import describe_person
from af_hub.client.wlcg import place_to_write, write_token
from af_hub.condor.jobtoken import with_token
from af_hub.errors import AFError, LoginRequired, Refused, Unavailable

OK, FAILED, MISTYPED, NO, NOT_LOGGED_IN, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass
class Terminal:
    """Where a command runs, and how it speaks: sentences for people, objects for programs."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    as_json: bool = False

    def say(self, sentence: str, **found: Any) -> None:
        """Print the result."""
        print(json.dumps(found) if self.as_json else sentence, file=self.out, flush=True)

    def tell(self, sentence: str) -> None:
        """Print what goes on meanwhile; not for programs."""
        if not self.as_json:
            print(sentence, file=self.err, flush=True)

    @property
    def logins(self) -> Logins:
        """What was left by ``af login``."""
        return Logins(login_file(self.environ))

    def current(self, hub: str) -> HubLogin:
        """The login to act with: at the hub that is named, the session's own, or the last one."""
        session = None if hub else session_login(self.environ)
        login = session or self.logins.get(read_address(hub) if hub else "")
        if login.expires_at is not None and login.expires_at <= time.time():
            raise LoginRequired(f"Your login at {login.hub} has ended; run `af login {login.hub}`.")
        return login


def login(options: argparse.Namespace, terminal: Terminal) -> None:
    """Sign in at a hub."""
    hub = Hub(read_address(options.hub))
    code = hub.begin(platform.node(), options.issuer)
    terminal.tell(
        f"Open in a browser, on any device:  {code.address}\nand type the code:                 {code.user_code}"
    )
    if code.whole_address:
        terminal.tell(f"or open                            {code.whole_address}")
    terminal.tell("Go on there only if the page shows this code. Waiting ...")
    if terminal.as_json:
        known = {"user_code": code.user_code, "verification_uri": code.address, "expires_in": code.seconds}
        terminal.say("", **known, verification_uri_complete=code.whole_address)
    found = hub.wait(code)
    terminal.logins.keep(found)
    assert found.expires_at is not None
    place = keep_access_token(found, terminal) if options.file else ""
    until = time.strftime("%a %d %b %H:%M", time.localtime(found.expires_at))
    also = f"\nTools find your access token in {place}; `af token --file` renews it." if place else ""
    terminal.say(
        f"Logged in at {found.hub} as {found.username} until {until}.{also}",
        hub=found.hub,
        username=found.username,
        expires_at=found.expires_at,
        token_file=place,
    )


def keep_access_token(login: HubLogin, terminal: Terminal) -> str:
    """Put an access token where tools look for it; a login stands though that fails."""
    try:
        found = Hub(login.hub, login.token).access_token()
        return put_access_token(login, found["access_token"], terminal)
    except AFError as error:
        terminal.tell(f"There is no token file yet: {error}")
        return ""


def put_access_token(login: HubLogin, value: str, terminal: Terminal) -> str:
    """Put it there, and remember that we did, unless the login is not ours to keep."""
    place = str(write_token(place_to_write(terminal.environ, os.getuid()), value))
    if login.expires_at is not None:
        terminal.logins.keep(replace(login, token_file=place, token_mark=mark_of(value)))
    return place


def whoami(options: argparse.Namespace, terminal: Terminal) -> None:
    """Say who somebody is."""
    login = terminal.current(options.hub)
    found = Hub(login.hub, login.token).me()
    name = found.get("username") or found.get("name") or ""
    if not name:
        raise Unavailable(f"{login.hub} does not say who you are.")
    hidden = {"kind", "token_id", "session_id", "name", "username", "groups"}
    kept = {key: value for key, value in found.items() if key not in hidden}
    terminal.say(
        describe_person(found, login.address, login.expires_at),
        hub=login.address,
        username=name,
        groups=found.get("groups") or [],
        expires_at=login.expires_at,
        about=kept,
    )


def token(options: argparse.Namespace, terminal: Terminal) -> None:
    """Get a fresh access token."""
    login = terminal.current(options.hub)
    found = Hub(login.hub, login.token).access_token(options.purpose)
    about = {"expires_at": found.get("expires_at"), "issuer": found.get("issuer")}
    if options.file:
        place = put_access_token(login, found["access_token"], terminal)
        terminal.say(f"The token is in {place}.", **about, token_file=place)
    else:
        terminal.say(found["access_token"], **about, access_token=found["access_token"])


def submit(options: argparse.Namespace, terminal: Terminal) -> None:
    """Submit a description to the pool."""
    from af_hub.client import submit as submitting

    description = submitting.read_description(options.description)
    submitting.check_library()
    login = terminal.current(options.hub)
    found = Hub(login.hub, login.token).pool(options.pool)
    way = submitting.Way(*(found[key] for key in POOL_KEYS))
    if options.token:
        try:
            Hub(login.hub, login.token, login.controller).bring_job_tokens(way.pool)
            description = with_token(description)
        except AFError as error:
            terminal.tell(f"The jobs get no token to read data with: {error}")
    done = submitting.submit(way, description, options.description.absolute().parent)
    for warning in done.warnings:
        terminal.tell(f"{way.schedd} warns: {warning}")
    jobs = list(done.jobs)
    many = f"{len(jobs)} jobs" if len(jobs) > 1 else "1 job"
    terminal.say(
        f"Submitted {many} to {way.schedd}: {', '.join(jobs)}",
        **{"jobs": jobs, "pool": way.pool, "schedd": way.schedd, "warnings": list(done.warnings)},
    )


def logout(options: argparse.Namespace, terminal: Terminal) -> None:
    """Give everything back: the hub's token there and here, and the access token that was put for tools."""
    login = terminal.logins.get(read_address(options.hub) if options.hub else "")
    told = True
    forget_access_token(login)
    try:
        Hub(login.hub, login.token).end()
    except LoginRequired:
        pass  # the hub knows it no longer, which is what was wanted
    except AFError as error:
        told = False
        terminal.tell(f"{error} The hub's token ends by itself; take it back on {login.hub}hub/token.")
    terminal.logins.forget(login.hub)
    terminal.say(f"Logged out at {login.hub}.", hub=login.hub, revoked=told)


def forget_access_token(login: HubLogin) -> None:
    """Remove the token file when it still holds what was put there for this login."""
    place = Path(login.token_file)
    try:
        if login.token_file and mark_of(place.read_text()) == login.token_mark:
            place.unlink()
    except OSError:
        pass  # it is gone


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="for programs: one object a line")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--hub", default="", metavar="ADDRESS", help="another hub than the last one")
    top = argparse.ArgumentParser(prog="af", description="The analysis facility from a terminal.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, act: Callable[..., None], about: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=about, description=about, parents=[common, *parents])
        one.set_defaults(act=act)
        return one

    one = add("login", login, "Sign in at a hub, with a code that you type into a browser on any device.")
    one.add_argument("hub", metavar="ADDRESS", help="of the hub, as in a browser")
    one.add_argument("--issuer", default="", metavar="NAME", help="which IAM, where the hub has several")
    one.add_argument("--no-file", dest="file", action="store_false", help="put no access token where tools look for it")
    add("whoami", whoami, "Who you are at the hub, and what you may do.", which)
    one = add("token", token, "Print a fresh access token of the IAM.", which)
    one.add_argument("--file", action="store_true", help="put it where tools look for it (WLCG bearer token discovery)")
    one.add_argument("--purpose", default="", choices=["session", "storage"], help="another kind of token")
    one = add("submit", submit, "Submit an HTCondor submit description, as yourself, with its files.", which)
    one.add_argument("description", type=Path, metavar="FILE", help="files that it names are looked for beside it")
    one.add_argument("--pool", default="", metavar="NAME", help="which pool, where several are open to you")
    one.add_argument("--no-token", dest="token", action="store_false", help="jobs that read no data with your token")
    add("logout", logout, "Give the hub's token back, and remove what lies here.", which)
    return top


def run(argv: Sequence[str], terminal: Terminal) -> int:
    """Do what was typed; the exit status."""
    if not argv:
        parser().print_help(terminal.err)
        return MISTYPED
    options = parser().parse_args(argv)
    terminal.as_json = options.json
    try:
        options.act(options, terminal)
    except AFError as error:
        if terminal.as_json:
            terminal.say("", error=str(error), kind=type(error).__name__)
        else:
            print(f"af: {error}", file=terminal.err)
        return NOT_LOGGED_IN if isinstance(error, LoginRequired) else NO if isinstance(error, Refused) else FAILED
    return OK


def main() -> None:
    """``af``."""
    try:
        sys.exit(run(sys.argv[1:], Terminal()))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # as in `af whoami | head -1`: who read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
