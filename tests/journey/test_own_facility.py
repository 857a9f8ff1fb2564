"""The how-to "Your own facility", done as it stands there: its files, its question, its demo, its new site."""

import re
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from af_hub.cli import main
from af_hub.demo.check import spawn, stop_session
from af_hub.errors import Unavailable
from af_hub.testing.browser import hub_token, sign_in
from af_hub.testing.process import Daemon, comes_true
from af_hub.testing.require import unavailable

CHECKOUT = Path(__file__).parents[2]
HOW_TO = (CHECKOUT / "docs" / "how-to" / "your-own-facility.md").read_text()
BLOCK = re.compile(r"^```\{code-block\} yaml\n:caption: (.+?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"^\$ \.venv/bin/af-hub explain lhcb-analyst\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The two files, after steps 1 to 4."""
    folder = tmp_path_factory.mktemp("mine")
    texts = {
        "mine/facility.yaml": (CHECKOUT / "hub_config" / "facility.yaml").read_text(),
        "mine/users.yaml": (CHECKOUT / "af_hub" / "demo" / "users.yaml").read_text(),
    }
    blocks = BLOCK.findall(HOW_TO)
    assert len(blocks) == 3
    for caption, block in blocks:
        if end := re.fullmatch(r"at the end of (.+)", caption):
            texts[end[1]] += block
        else:
            name, key = re.fullmatch(r"in (.+), below `(.+)`", caption).groups()
            assert texts[name].count(f"\n{key}\n") == 1
            texts[name] = texts[name].replace(f"\n{key}\n", f"\n{key}\n{block}", 1)
    for name, text in texts.items():
        (folder / Path(name).name).write_text(text)
    return folder


def test_the_answer_stands_in_the_how_to(mine, monkeypatch):
    monkeypatch.setenv("AF_FACILITY_FILE", str(mine / "facility.yaml"))
    monkeypatch.setenv("AF_DEMO_USERS", str(mine / "users.yaml"))
    done = CliRunner().invoke(main, ["explain", "lhcb-analyst", "--database", str(mine / "nowhere")])
    assert done.exit_code == 0, done.output
    assert done.output == ANSWER.search(HOW_TO)[1]


@pytest.mark.real
def test_the_new_person_computes_at_the_new_site(mine, tmp_path):
    argv = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(tmp_path / "d"), "--port", "0"]
    argv += ["--facility", str(mine / "facility.yaml"), "--users", str(mine / "users.yaml")]
    demo = Daemon("demo", [*argv, "--ready-fd", "{ready_fd}"], tmp_path / "demo.log")
    try:
        try:
            url = demo.start().ready(120)["url"]
        except Unavailable as reason:
            unavailable(f"the demo cannot run here: {reason}")
        with closing(sign_in(url, "lhcb-analyst")) as browser:
            see_the_new_rule(browser, mine / "facility.yaml")
            spawn(browser, "lhcb-analyst", "python-analysis")
            compute(browser, f"{url}services/af-controller/api/clusters", hub_token(browser, "lhcb-analyst"))
            stop_session(browser, "lhcb-analyst")
    finally:
        demo.stop(grace=40)


def see_the_new_rule(browser, facility):
    """The page offers what the rule gives, and what an edit of it gives, within five seconds."""
    page = browser.get("/hub/spawn").text
    assert 'value="small"' in page and 'value="medium"' not in page and 'value="python-base"' not in page
    before = facility.read_text()
    rule = before.partition("- name: LHCb analysts")[2]
    facility.write_text(before.replace(rule, rule.replace("sizes: [small]", "sizes: [small, medium]", 1)))
    edited = time.monotonic()
    assert comes_true(lambda: 'value="medium"' in browser.get("/hub/spawn").text, 5)
    assert time.monotonic() - edited < 5


def compute(browser, clusters, token):
    """A Dask cluster at the new site runs, and at another site there is none."""
    headers = {"Authorization": f"token {token}"}
    asked = {"site": "T2_MINE", "image": "python-analysis", "workers": 1}
    refused = browser.post(clusters, json=asked | {"site": "T2_A"}, headers=headers)
    assert refused.status_code == 403 and "T2_MINE" in refused.json()["detail"]
    cluster = browser.post(clusters, json=asked, headers=headers).json()
    address = f"{clusters}/{cluster['id']}"
    state = {}

    def runs():
        state.update(browser.get(address, headers=headers).json())
        assert state["state"] in ("requested", "queued", "starting", "running"), state["reason"]
        return state["workers_running"] == 1

    assert comes_true(runs, 90), state
    assert browser.delete(address, headers=headers).status_code == 202
