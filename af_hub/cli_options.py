"""What several commands of ``af-hub`` have in common."""

import os
from pathlib import Path

import click

NO = 3
"""Exit status of a plain no."""
CHECKOUT = Path(__file__).resolve().parents[1]

facility_option = click.option(
    "--facility",
    "facility_file",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_FACILITY_FILE", CHECKOUT / "hub_config" / "facility.yaml"),
    help="The policy; AF_FACILITY_FILE, else the checkout's hub_config/facility.yaml.",
)

users_option = click.option(
    "--users",
    "users_file",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_DEMO_USERS", CHECKOUT / "af_hub" / "demo" / "users.yaml"),
    help="The people of the demo's IAM; AF_DEMO_USERS, else the checkout's af_hub/demo/users.yaml.",
)

keeper_option = click.option(
    "--database",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("AF_HUB_RECORDS", CHECKOUT / ".demo" / "hub" / "keeper.sqlite"),
    help="The token keeper's database, with the claims that it recorded; AF_HUB_RECORDS, else the demo's.",
)
