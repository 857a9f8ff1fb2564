"""The commands of ``af-hub`` for whoever runs an HTCondor pool without the watcher: what it would keep, written or printed once."""

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import click

from af_hub.cli_options import NO, facility_option


@click.command()
@click.option(
    "--scim",
    "scim_urls",
    multiple=True,
    metavar="[NAME=]URL",
    help="Where an IAM lists its people, as in https://iam.example.org/scim; NAME is the issuer's in the policy, needed where there are several.",
)
@click.option(
    "--token-file",
    "token_files",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A token of that IAM with the scope scim:read. Mode 0600.",
)
@click.option(
    "--list",
    "list_file",
    type=click.File(),
    help="Instead of SCIM: a list of {subject, username, groups} in YAML or JSON.",
)
@click.option("--into", type=click.Path(path_type=Path), required=True, help="The mapfile.")
@click.option(
    "--accounting-map", type=click.Path(path_type=Path), help="Write the access point's accounting map there too."
)
@click.option("--tail", type=click.File(), help="Lines that shall stand at the end of the mapfile.")
@click.option(
    "--keys",
    type=click.Choice(["hash", "regex"]),
    default="hash",
    show_default=True,
    help="How lines name people. regex: for a pool without CERTIFICATE_MAPFILE_ASSUME_HASH_KEYS.",
)
@click.option(
    "--floor",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="How many lines there must be. A person has one, and two where the hub signs tokens for the pool.",
)
@click.option(
    "--shrink",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="What share of the lines there may go, or get another account; one always may.",
)
@click.option("--lose", type=click.IntRange(0), help="That many may, once, whatever their share.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long the IAMs may take.",
)
@click.option(
    "--reconfig",
    default="condor_reconfig",
    show_default=True,
    help="The command that makes HTCondor read its maps again; empty for none.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@facility_option
def mapfile(
    scim_urls: tuple[str, ...],
    token_files: tuple[str, ...],
    list_file: TextIO | None,
    into: Path,
    accounting_map: Path | None,
    tail: TextIO | None,
    keys: str,
    floor: int,
    shrink: float,
    lose: int | None,
    seconds: float,
    reconfig: str,
    dry_run: bool,
    facility_file: Path,
) -> None:
    """A static CERTIFICATE_MAPFILE, for a pool that does not run the mapping program.

    Who there is comes from the IAMs by SCIM, or from a list; who is what, from the policy. Prints what changes, writes the file in one
    step, and tells HTCondor. Exit status 0 also when nothing changed, 3 when too many lines would go: nothing is written then.
    """
    from af_hub.condor import static
    from af_hub.condor.mapfile import Keys, compile_mapfile
    from af_hub.errors import Refused
    from af_hub.policy.load import load_policy

    if bool(scim_urls) == bool(list_file):
        raise click.UsageError("give --scim or --list, one of them")
    policy, into = load_policy(facility_file, lenient=True), into.resolve()
    if list_file:
        people = static.read_list(list_file.read(), policy.issuers[0].issuer)
    else:
        files = static.by_issuer(policy, token_files, "--token-file")
        tokens = {issuer: Path(path) for issuer, path in files.items()}
        people = static.ask_issuers(static.by_issuer(policy, scim_urls, "--scim"), tokens, seconds)
    now = time.time()
    made = compile_mapfile(policy, people.claims, now, Keys(keys), tail.read() if tail else "")
    texts = {into: made.text} | ({accounting_map.resolve(): made.accounting_map} if accounting_map else {})
    with nullcontext() if dry_run else static.only_run(into) as lock:
        old = static.read_old(into)
        changes = static.difference(into, old, made.text)
        click.echo(changes, nl=False)
        click.echo(static.summary(made, people, now, policy), err=True)
        try:
            static.check(old, made, static.Bounds(floor, shrink, lose))
        except Refused as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(NO)
        if lock is not None:
            told = static.put(texts, reconfig, lock)
            click.echo(
                f"{into} is {'new' if changes else 'as it was'}{'; HTCondor was told' if told else ''}.", err=True
            )


@click.command()
@facility_option
def negotiator(facility_file: Path) -> None:
    """HTCondor's settings for the policy's accounting groups.

    For a central manager without `python -m af_hub.condor.watch --tell negotiator`, which keeps them.
    """
    from af_hub.condor.negotiator import describe_groups
    from af_hub.policy.load import load_policy

    click.echo(describe_groups(load_policy(facility_file, lenient=True)), nl=False)
