"""The users file of the demo's IAM: every mistake is a sentence."""

import pytest
import yaml
from click.testing import CliRunner

from af_hub.cli import main
from af_hub.demo.people import demo_users
from af_hub.errors import ClaimsError

ADA = {"username": "ada", "subject": "1", "name": "Ada", "email": "ada@af-hub.test", "groups": ["/cms"], "about": ""}


@pytest.mark.parametrize(
    "text, says",
    [
        pytest.param("", "a list of people is wanted", id="empty"),
        pytest.param("ada: 1", "a list of people is wanted", id="no list"),
        pytest.param("- [", "no YAML", id="no YAML"),
        pytest.param("- ada", "person 1: without about, email, groups, name, subject, username", id="no mapping"),
        pytest.param([ADA, {**ADA, "username": "bob"}], "subject 1 stands twice", id="same subject"),
        pytest.param([ADA, {**ADA, "subject": "2"}], "username ada stands twice", id="same name"),
        pytest.param([{**ADA, "group": "/cms"}], "person 1: unknown group", id="another key"),
        pytest.param([{**ADA, "subject": 1}], "subject is 1; a text is wanted", id="a number"),
        pytest.param([{**ADA, "username": ""}], "username is ''; a text is wanted", id="nobody"),
        pytest.param([{**ADA, "groups": "/cms"}], "groups is '/cms'; a list of names is wanted", id="one group"),
        pytest.param([{**ADA, "groups": [1]}], "groups is [1]; a list of names is wanted", id="group of a number"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, says):
    users = tmp_path / "users.yaml"
    users.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    with pytest.raises(ClaimsError, match=r"users\.yaml") as found:
        demo_users(users)
    assert says in str(found.value)


def test_no_file_is_a_sentence_of_the_command(tmp_path):
    done = CliRunner().invoke(
        main, ["explain", "ada", "--users", str(tmp_path / "none"), "--database", str(tmp_path / "no")]
    )
    assert done.exit_code == 1 and "none: cannot be read" in done.output
