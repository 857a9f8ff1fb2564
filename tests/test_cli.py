"""``af-hub`` as an administrator types it."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from af_hub.cli import main
from af_hub.demo.people import demo_users
from af_hub.iam.claims import Claims
from af_hub.tokens.records import read_record
from af_hub.tokens.store import Store


def af_hub(*arguments: str | Path):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def nowhere(tmp_path) -> Path:
    return tmp_path / "keeper.sqlite"


@pytest.mark.parametrize("user", [user["username"] for user in demo_users()])
def test_explain_says_yes_or_no_of_every_demo_user_while_nothing_runs(user, nowhere):
    done = af_hub("explain", user, "--database", nowhere)
    refused = user == "outsider"
    assert done.exit_code == (3 if refused else 0), done.output
    assert ("may not log in: outsider is in none of the groups" if refused else "may log in  [rule:") in done.output
    assert "the demo's user file" in done.output


def test_explain_asks_what_the_hub_recorded_first(nowhere):
    store = Store(nowhere, [Fernet(Fernet.generate_key())])
    store.write_claims(Claims("https://iam.af-hub.test/", "1", "cms-analyst", ("/guests",)), time.time())
    store.close()
    done = af_hub("explain", "cms-analyst", "--database", nowhere)
    assert done.exit_code == 3
    assert "what the IAM said at" in done.output


def test_explain_of_imagined_groups(nowhere):
    done = af_hub("explain", "--groups", "/cms,/cms/itcms", "--database", nowhere)
    assert done.exit_code == 0 and "accounting group: cms.itcms  [rule: CMS analysts]" in done.output


def test_explain_of_claims_in_a_file(tmp_path, nowhere):
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"sub": "1", "preferred_username": "ada", "groups": ["icsc"]}))
    done = af_hub("explain", "--claims", claims, "--database", nowhere)
    assert done.exit_code == 0 and "HTCondor account: u-icsc-ada" in done.output


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["nobody"], "nothing is known of 'nobody'"),
        ([], "give one of: a user name"),
        (["ada", "--groups", "/cms"], "give one of: a user name"),
        (["ada", "--facility", "/nowhere/facility.yaml"], "cannot be read"),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(arguments, says, nowhere):
    done = af_hub("explain", *arguments, "--database", nowhere)
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output


def test_a_record_of_nobody_is_none(nowhere):
    assert read_record(nowhere, "ada") is None


def test_help_is_quick_and_names_the_commands():
    done = af_hub("--help")
    assert done.exit_code == 0
    assert {"explain", "demo", "demo-check"} <= set(done.output.split())


def test_claims_that_are_no_json_are_one_sentence(tmp_path, nowhere):
    claims = tmp_path / "claims.json"
    claims.write_text("no JSON")
    done = af_hub("explain", "--claims", claims, "--database", nowhere)
    assert done.exit_code == 1 and "is no JSON" in done.output and "Traceback" not in done.output


def test_a_port_that_cannot_be_is_mistyped(tmp_path):
    done = af_hub("demo", "--port", "99999", "--folder", tmp_path)
    assert done.exit_code == 2 and "99999" in done.output
