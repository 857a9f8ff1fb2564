"""``af-hub session``: what somebody's session would get, and in what one that runs is other."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from af_hub.cli_options import NO, facility_option, keeper_option, users_option

if TYPE_CHECKING:
    from af_hub.spawning.preview import Preview


@click.command()
@click.option("--user", "username", required=True, help="Whose session, by the name at the hub.")
@click.option(
    "--image", help="A name of the policy's images, or one that they may type; the first of theirs when left out."
)
@click.option("--size", help="A name of the policy's sizes; the first of theirs when left out.")
@click.option("--named", "server", default="", help="The name of the server; the default one when left out.")
@click.option(
    "--diff", is_flag=True, help="Compare with the pod that runs, instead of printing; exit status 3 when it differs."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=lambda: os.environ.get("AF_HUB_CONFIG"),
    help="The hub's configuration file; AF_HUB_CONFIG, else the spawner that AF_SPAWNER names with its defaults.",
)
@click.option(
    "--hub",
    "hub_url",
    default=lambda: os.environ.get("AF_HUB_URL", "http://127.0.0.1:8081").rstrip("/") + "/",
    help="Where sessions find the hub; AF_HUB_URL.",
)
@keeper_option
@facility_option
@users_option
def session(
    username: str,
    image: str | None,
    size: str | None,
    server: str,
    diff: bool,
    config_file: Path | None,
    hub_url: str,
    database: Path,
    facility_file: Path,
    users_file: Path,
) -> None:
    """What a session of somebody would get: pod, Secret and files, or environment and files.

    Tokens are words in it. Groups are those that the hub recorded last. The image is looked up at its registry, as at a start. It wants the hub's
    environment, so run it beside the hub: kubectl -n af-hub exec deploy/hub -- af-hub session --user NAME. With --diff the cluster is asked as
    KUBECONFIG says, in a pod as its account, and who that is must be allowed to list pods, as the hub is.
    """
    import asyncio

    from af_hub.demo import people
    from af_hub.policy.decide import decide
    from af_hub.policy.load import load_policy
    from af_hub.spawning.preview import Person

    policy = load_policy(facility_file)
    claims, _ = people.find_claims(policy, username, None, None, database, users_file)
    person = Person(decide(policy, claims, time.time()), policy)
    choice = {key: value for key, value in (("image", image), ("size", size)) if value is not None}
    sys.exit(asyncio.run(show(person, username, server, choice, config_file, hub_url.rstrip("/") + "/", diff)))


async def show(
    person: Any, username: str, server: str, choice: dict[str, str], config_file: Path | None, hub_url: str, diff: bool
) -> int:
    """Print it; the exit status."""
    from af_hub.spawning.preview import against_running, find_class, make_spawner, preview, read_config

    config = read_config(config_file)
    kind = find_class(config, os.environ.get("AF_SPAWNER", "af_hub.spawner.LocalAFSpawner"))
    spawner = make_spawner(kind, config, person, username, server, hub_url)
    made = await preview(spawner, choice)
    if not diff:
        click.echo(render(made), nl=False)
        return 0
    found = await against_running(spawner, made)
    click.echo("\n".join(found) or "It runs as it would be made.")
    return NO if found else 0


def render(made: "Preview") -> str:
    """Objects as YAML, variables one a line, files with their place before them."""
    import yaml

    parts = [f"# {what}\n{yaml.safe_dump(one, sort_keys=False, width=1000)}" for what, one in made.objects.items()]
    if made.environment:
        parts.append(
            "# environment\n" + "".join(f"{name}={value}\n" for name, value in sorted(made.environment.items()))
        )
    parts += [f"# {place}\n{text.rstrip()}\n" for place, text in sorted(made.files.items())]
    return "---\n".join(parts)
