"""``af-hub``: what an administrator types. Each command imports what it needs when it runs, so that ``--help`` is quick.

Exit status: 0 yes or done, 1 it failed, 2 mistyped, 3 no (``explain``: the login is refused; ``check policy``: the file has mistakes;
``check site``: the site is shared; ``mapfile``: too many lines would go), 130 interrupted.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

import click

from af_hub.cli_options import CHECKOUT, NO, facility_option, keeper_option, users_option
from af_hub.cli_pool import mapfile, negotiator
from af_hub.cli_session import session
from af_hub.errors import AFError, PolicyError

INTERRUPTED = 130

with_parent_option = click.option(
    "--with-parent", is_flag=True, help="End when whoever started this ends, as make does."
)


class Commands(click.Group):
    """Turns our own errors into one sentence and exit status 1; a traceback would help nobody there."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AFError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="af_hub")
def main() -> None:
    """AF Hub: an analysis facility for high-energy physics."""


def read_time(text: str) -> float:
    """Unix seconds of an instant with its zone.

    Raises
    ------
    click.BadParameter
        When it is none.
    """
    from af_hub.policy.units import read_instant

    try:
        return read_instant(text).timestamp()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error


@main.command()
@click.argument("username", required=False)
@click.option("--claims", "claims_file", type=click.File(), help="JSON of a userinfo answer or an id token's payload.")
@click.option("--groups", help="Comma-separated groups of an imagined person, as in /cms,/cms/itcms.")
@click.option("--issuer", help="Whose groups those are: the short name of an issuer; the first one when left out.")
@click.option("--at", "instant", metavar="TIME", help="Not now but then, as in 2026-12-05T18:00:00+01:00.")
@keeper_option
@facility_option
@users_option
def explain(
    username: str | None,
    claims_file: TextIO | None,
    groups: str | None,
    issuer: str | None,
    instant: str | None,
    database: Path,
    facility_file: Path,
    users_file: Path,
) -> None:
    """What the policy gives USERNAME and which rule gave it.

    Claims are those that the hub recorded last; where there is no hub database, those of the demo's user file. Works while nothing runs.
    """
    from af_hub.demo import people
    from af_hub.policy.decide import decide
    from af_hub.policy.explain import NOT_IN_FORCE
    from af_hub.policy.explain import explain as in_words
    from af_hub.policy.load import load_policy

    try:
        policy = load_policy(facility_file, lenient=True)
    except PolicyError as error:
        raise PolicyError(f"{error}\n{NOT_IN_FORCE}") from error
    now = read_time(instant) if instant else time.time()
    claims, source = people.find_claims(policy, username, claims_file, groups, database, users_file, issuer)
    rights = decide(policy, claims, now)
    click.echo(in_words(policy, claims, rights, source, now))
    sys.exit(0 if rights.login else NO)


@main.group()
def check() -> None:
    """Whether something is as the facility needs it."""


@check.command("policy")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--strict", is_flag=True, help="Doubts count too; for a check before a file is put in place by a program."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@facility_option
def check_policy_file(file: Path | None, strict: bool, as_json: bool, facility_file: Path) -> None:
    """Whether FILE can be the policy.

    All mistakes at once, each with its line, what was found, what was wanted and what to change; where there are none, doubts: what is
    allowed and hardly meant. FILE is that of --facility when it is left out. Exit status 0 when it can, 3 when it has mistakes, 1 when
    it cannot be read.
    """
    from af_hub.policy.check import check_policy
    from af_hub.policy.load import unreadable

    path = file or facility_file
    try:
        report = check_policy(path.read_bytes(), str(path), os.environ, time.time())
    except OSError as error:
        raise unreadable(path, error) from error
    click.echo(json.dumps(report.as_dict(), indent=1) if as_json else report.in_words(str(path)))
    sys.exit(NO if report.mistakes or (strict and report.doubts) else 0)


@main.command()
def schema() -> None:
    """The JSON schema of facility.yaml, for editors."""
    from af_hub.policy.schema import schema as made

    click.echo(made(), nl=False)


@check.command("site")
@click.argument("site")
@click.option(
    "--credential",
    "credentials",
    type=click.File(),
    multiple=True,
    help="A file with a token of an IAM for the pool, or tokens of the pool, one a line. Twice, of two accounts.",
)
@click.option("--machine", default="", help="The worker node; when not given, the one with the most free cores.")
@click.option("--seconds", default=180, show_default=True, help="How long the jobs may take, waiting included.")
@click.option(
    "--demo",
    "demo_folder",
    type=click.Path(path_type=Path),
    default=CHECKOUT / ".demo",
    help="Where a demo runs: it is taken when no credential is given.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@facility_option
def check_site(
    site: str,
    credentials: tuple[TextIO, ...],
    machine: str,
    seconds: int,
    demo_folder: Path,
    as_json: bool,
    facility_file: Path,
) -> None:
    """Whether jobs of two people at SITE can read each other.

    Two jobs of two accounts run on one worker node, and each tries to read the other. One line for each thing: ok; shared; or open, which
    is so nearly everywhere and does not matter. Exit status 0 when nothing is shared, 3 otherwise.
    """
    if credentials:
        from af_hub.condor.check_site import plan_check

        plan = plan_check(facility_file, os.environ, site, [file.read() for file in credentials])
    else:
        from af_hub.demo.site import plan_check_of_demo

        plan = plan_check_of_demo(demo_folder, facility_file, site)
    report = plan.run(seconds, machine)
    click.echo(json.dumps(report.as_dict(), indent=1) if as_json else str(report))
    sys.exit(NO if report.shared else 0)


@main.group()
def keys() -> None:
    """The keys that seal people's tokens in the hub's database."""


key_file_option = click.option(
    "--file",
    "key_file",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_CRYPT_KEY_FILE", CHECKOUT / ".demo" / "hub" / "crypt_key"),
    help="The key file; AF_CRYPT_KEY_FILE, else the demo's.",
)


@keys.command("new")
@key_file_option
def keys_new(key_file: Path) -> None:
    """Make a key file, for a hub that has none yet."""
    from af_hub.tokens.keys import make, mark

    click.echo(f"{key_file} has one key, {mark(make(key_file))}. Keep a copy apart from the hub's databases.")


@keys.command("rotate")
@key_file_option
def keys_rotate(key_file: Path) -> None:
    """Put a new key first; the others go on opening what they sealed."""
    from af_hub.tokens.keys import mark, rotate

    click.echo(
        f"{key_file} has a new first key, {mark(rotate(key_file))}. Now restart the hub: it seals everything with it, "
        "and nobody notices. Then `af-hub keys prune` drops the older keys."
    )


@keys.command("list")
@key_file_option
@keeper_option
def keys_list(key_file: Path, database: Path) -> None:
    """The keys, and how many logins each one seals."""
    from af_hub.tokens.keys import count, mark

    for number, (key, logins) in enumerate(count(key_file, database)):
        if key:
            click.echo(f"{mark(key)}  {'seals' if number == 0 else 'opens'}  {logins} login{'s' * (logins != 1)}")
        elif logins:
            click.echo(f"no key    opens  {logins} login{'s' * (logins != 1)}: these people have to log in again")


@keys.command("prune")
@key_file_option
@keeper_option
def keys_prune(key_file: Path, database: Path) -> None:
    """Drop all keys but the first, when nothing is sealed with them any more."""
    from af_hub.tokens.keys import mark, prune

    gone = prune(key_file, database)
    click.echo(f"{key_file} has one key. {'Gone: ' + ', '.join(map(mark, gone)) if gone else 'There was no other.'}")


@keys.command("cluster")
@click.option("--secret", required=True, help="Name of the Secret, in the namespace of this pod.")
@click.option(
    "--number",
    "numbers",
    multiple=True,
    metavar="KIND=N",
    help="Make this kind anew, once, where it was made with a lower number than N. 1 is what each begins with.",
)
@click.option(
    "--kept",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Keys of the hub's database at most, the one that seals included.",
)
def keys_cluster(secret: str, numbers: tuple[str, ...], kept: int) -> None:
    """Complete the Secret of a facility in a cluster; the chart's Job does it.

    What is there stays as it is. Nothing of it is printed.
    """
    from af_hub.keychain.secret import run

    written = run(secret, read_numbers(numbers), kept)
    click.echo(f"{secret}: {', '.join(written)} written" if written else f"{secret}: nothing was missing")


def read_numbers(given: tuple[str, ...]) -> dict[str, int]:
    """``KIND=N``, several times.

    Raises
    ------
    click.BadParameter
        With what was wanted.
    """
    from af_hub.keychain.kinds import KINDS

    found = {}
    for one in given:
        kind, _, number = one.partition("=")
        if kind not in KINDS or not number.isdecimal():
            raise click.BadParameter(f"found {one!r}; wanted KIND=N, where KIND is one of {', '.join(KINDS)}")
        found[kind] = int(number)
    return found


@main.command("demo-setup")
@click.option(
    "--keep-going",
    is_flag=True,
    help="Exit status 0 though a part cannot be had; for tests, which skip with the reason.",
)
def demo_setup(keep_going: bool) -> None:
    """Get what demo and tests need. That is images, HTCondor, XRootD and data, once."""
    from af_hub.demo.parts import get_parts

    try:
        failed = get_parts(CHECKOUT, keep_going)
    except KeyboardInterrupt:
        click.echo("Stopped; nothing half-made is left.", err=True)
        sys.exit(INTERRUPTED)
    if failed and not keep_going:
        raise click.ClickException(f"{', '.join(failed)} could not be had; the lines above say why")


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=CHECKOUT / ".demo", help="Where it keeps its files.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The hub's port; another free one is taken when it is in use.",
)
@click.option("--ready-fd", type=int, help="For programs: a descriptor that gets one line of JSON with addresses.")
@click.option(
    "--pods",
    "pods_file",
    type=click.Path(path_type=Path),
    help="For programs: a file that tells of the cluster whose pods the sessions shall be.",
)
@with_parent_option
@facility_option
@users_option
def demo(
    folder: Path,
    port: int,
    ready_fd: int | None,
    pods_file: Path | None,
    with_parent: bool,
    facility_file: Path,
    users_file: Path,
) -> None:
    """Run the facility on this machine. Ctrl-C ends it. It has the sites of the policy and the people of the users file."""
    from af_hub.demo.pods import PodSessions
    from af_hub.demo.run import run

    pods = PodSessions.read(pods_file) if pods_file else None
    run(CHECKOUT, folder, port, ready_fd, with_parent, facility_file.absolute(), users_file.absolute(), pods)


@main.command("demo-kube")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=CHECKOUT / ".demo-kube", help="Where it keeps its files."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The hub's port; another free one is taken when it is in use.",
)
@click.option("--ready-fd", type=int, help="For programs: a descriptor that gets one line of JSON with addresses.")
@with_parent_option
def demo_kube(folder: Path, port: int, ready_fd: int | None, with_parent: bool) -> None:
    """Run the facility with sessions as pods of a real Kubernetes. Needs root and Go; Ctrl-C ends it, and nothing is left."""
    from af_hub.demo.kube import start

    start(folder, port, ready_fd, with_parent)


@main.command("demo-check")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the hops into this file too.")
@click.option("--keep", is_flag=True, help="Leave the folder with logs where it is, and say where.")
@with_parent_option
def demo_check(json_file: Path | None, keep: bool, with_parent: bool) -> None:
    """Go a user's way through an own demo. Log in, spawn, run the notebook, close: one line a hop."""
    from af_hub.demo.check import check

    hops = check(CHECKOUT, keep, with_parent)
    if json_file:
        json_file.write_text(json.dumps([hop.as_dict() for hop in hops], indent=1) + "\n")
    sys.exit(0 if all(hop.ok for hop in hops) else 1)


for command in (mapfile, negotiator, session):
    main.add_command(command)


if __name__ == "__main__":
    main()
