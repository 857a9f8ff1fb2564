"""``af-hub``: what an administrator types. Each command imports what it needs when it runs, so that ``--help`` is quick.

Exit status: 0 yes or done, 1 it failed, 2 mistyped, 3 no (``explain``: the login is refused; ``check site``: the site is shared),
130 interrupted.
"""

import json
import os
import sys
from pathlib import Path
from typing import TextIO

import click

from af_hub.errors import AFError, PolicyError

NO = 3
INTERRUPTED = 130
CHECKOUT = Path(__file__).resolve().parents[1]

facility_option = click.option(
    "--facility",
    "facility_file",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_FACILITY_FILE", CHECKOUT / "hub_config" / "facility.yaml"),
    help="The policy; AF_FACILITY_FILE, else the checkout's hub_config/facility.yaml.",
)


with_parent_option = click.option(
    "--with-parent", is_flag=True, help="End when whoever started this ends, as make does."
)

users_option = click.option(
    "--users",
    "users_file",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_DEMO_USERS", CHECKOUT / "af_hub" / "demo" / "users.yaml"),
    help="The people of the demo's IAM; AF_DEMO_USERS, else the checkout's af_hub/demo/users.yaml.",
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


@main.command()
@click.argument("username", required=False)
@click.option("--claims", "claims_file", type=click.File(), help="JSON of a userinfo answer or an id token's payload.")
@click.option("--groups", help="Comma-separated groups of an imagined person, as in /cms,/cms/itcms.")
@click.option(
    "--database",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_HUB_RECORDS", CHECKOUT / ".demo" / "hub" / "keeper.sqlite"),
    help="Where the hub records claims; AF_HUB_RECORDS, else the demo's.",
)
@facility_option
@users_option
def explain(
    username: str | None,
    claims_file: TextIO | None,
    groups: str | None,
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
    claims, source = people.find_claims(policy, username, claims_file, groups, database, users_file)
    rights = decide(policy, claims)
    click.echo(in_words(policy, claims, rights, source))
    sys.exit(0 if rights.login else NO)


@main.group()
def check() -> None:
    """Whether something is as the facility needs it."""


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
@with_parent_option
@facility_option
@users_option
def demo(
    folder: Path, port: int, ready_fd: int | None, with_parent: bool, facility_file: Path, users_file: Path
) -> None:
    """Run the facility on this machine. Ctrl-C ends it. It has the sites of the policy and the people of the users file."""
    from af_hub.demo.run import run

    run(CHECKOUT, folder, port, ready_fd, with_parent, facility_file.absolute(), users_file.absolute())


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


if __name__ == "__main__":
    main()
