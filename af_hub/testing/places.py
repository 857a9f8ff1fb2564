"""Where the files are that parts are configured with: beside the package in a checkout, inside of it where a wheel was installed."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parent
IN_CHECKOUT = (CHECKOUT / "pyproject.toml").exists()
CONFIGURATION = (CHECKOUT if IN_CHECKOUT else PACKAGE) / "hub_config"
USERS = PACKAGE / "demo" / "users.yaml"
