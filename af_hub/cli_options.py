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
