"""facility.yaml as people write it, mistakes included."""

import asyncio
import os
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from af_hub.errors import PolicyError
from af_hub.policy.load import PolicyFile, load_policy, read_policy
from af_hub.policy.model import Policy
from af_hub.policy.rules import Condor, Rule
from af_hub.policy.watch import OVERRIDES, RIGHT, keep_current

SHIPPED = Path(__file__).parents[2] / "hub_config" / "facility.yaml"


def shipped() -> dict:
    return yaml.safe_load(SHIPPED.read_text())


def read(found: dict | str):
    text = found if isinstance(found, str) else yaml.safe_dump(found, sort_keys=False)
    return read_policy(text, "facility.yaml", {}, lenient=True)


def test_the_shipped_policy_is_right():
    policy = load_policy(SHIPPED, {}, lenient=True)
    assert policy.sites["T2_A"].pool == "main"
    assert policy.rules[0].limits.memory == 32 * 2**30
    assert policy.rules[0].limits.lifetime == 12 * 3600


def test_a_variable_comes_from_the_environment_and_a_missing_one_is_named():
    environ = {
        "AF_PUBLIC_URL": "http://127.0.0.1:1/",
        "AF_IAM_DISCOVERY": "http://127.0.0.1:1/.well-known/openid-configuration",
        "AF_IMAGES": "/images",
        "AF_CONDOR_COLLECTOR": "localhost:9618",
        "AF_CONDOR_CA_FILE": "/ca.pem",
        "AF_XROOTD_CACHE": "root://127.0.0.1:1094",
        "AF_XROOTD_CA_FILE": "",
        "AF_REGISTRY": "",
    }
    assert str(load_policy(SHIPPED, environ).images["python-base"].environment) == "/images/python-base"
    del environ["AF_CONDOR_COLLECTOR"]
    with pytest.raises(PolicyError, match="the environment has no AF_CONDOR_COLLECTOR"):
        load_policy(SHIPPED, environ)


def _without(key):
    return lambda policy: policy.pop(key)


def _set(*path_and_value):
    *path, last, value = path_and_value

    def edit(policy):
        for step in path:
            policy = policy[step]
        policy[last] = value

    return edit


@pytest.mark.parametrize(
    "edit, says",
    [
        pytest.param(
            _without("facility"),
            r"line 1, facility: found nothing, wanted what people are told about the place; add `facility: ...`",
            id="a part is missing",
        ),
        pytest.param(
            _set("rules", 0, "imagse", []),
            r"rules\[0\]\.imagse: found an unknown key, wanted one of name, groups, .*; write `images`",
            id="a mistyped key",
        ),
        pytest.param(_set("colour", "red"), "colour: found an unknown key, .*; take it out", id="a key of nothing"),
        pytest.param(
            _set("rules", 0, "images", ["python-base", "nope"]),
            r"rules\[0\]\.images\[1\]: found 'nope', wanted a name from `images`: python-analysis, python-base; write one",
            id="unknown image",
        ),
        pytest.param(_set("rules", 0, "sites", ["T2"]), r"found 'T2', wanted .*: T2_A, T2_B;", id="unknown site"),
        pytest.param(_set("rules", 0, "sizes", ["xl"]), r"found 'xl', wanted .*: medium, small;", id="unknown size"),
        pytest.param(
            _set("sites", "T2_A", "pool", "x"), r"sites\.T2_A\.pool: found 'x', .*`pools`: main", id="unknown pool"
        ),
        pytest.param(
            _set("sites", "T2_A", "cache", "x"), r"sites\.T2_A\.cache: found 'x', .*`caches`: near", id="unknown cache"
        ),
        pytest.param(_without("pools"), "`pools`: which there are none of", id="pool where there is none"),
        pytest.param(
            _set("rules", 0, "groups", []), r"rules\[0\]\.groups: found an empty list", id="a rule for nobody"
        ),
        pytest.param(_set("rules", 0, "groups", ["cms"]), r"found 'cms', wanted the path of a group", id="no slash"),
        pytest.param(_set("rules", 0, "groups", ["/"]), r"found '/'", id="a group that is only a slash"),
        pytest.param(
            _set("rules", 0, "groups", "/cms"), "found '/cms', wanted a list; put it in brackets", id="no list"
        ),
        pytest.param(
            _set("rules", 0, "name", 5), "found 5, wanted text; write `5` in quotes", id="a number for a text"
        ),
        pytest.param(_set("rules", 0, "login", "maybe"), "found 'maybe', wanted true or false", id="no yes or no"),
        pytest.param(_set("rules", 0, "limits", "cores", 1.5), "found 1.5, wanted a whole number", id="half a core"),
        pytest.param(_set("rules", 0, "limits", "many"), "found 'many', wanted keys and values", id="text for a part"),
        pytest.param(_set("rules", None), "rules: found nothing, wanted a list", id="an empty part"),
        pytest.param(
            _set("images", ["a"]), "images: found a list, wanted names, each with its own keys", id="no names"
        ),
        pytest.param(_set("images", "no name!", {"title": "x"}), "found 'no name!', wanted a name", id="a bad name"),
        pytest.param(
            _set("sizes", "small", "memory", "2 gigs"),
            r"sizes\.small\.memory: found '2 gigs', wanted a number and one of .*; write it as in `2 GiB`",
            id="a unit nobody knows",
        ),
        pytest.param(_set("sizes", "small", "memory", "9" * 99 + " B"), "wanted a number and", id="endless memory"),
        pytest.param(_set("rules", 0, "limits", "lifetime", "soon"), "found 'soon', wanted .*`12 h`", id="no time"),
        pytest.param(_set("sizes", "small", "cpus", 0), r"found 0, wanted more than 0", id="no CPU at all"),
        pytest.param(_set("sizes", "small", "cpus", float("inf")), "not endless", id="endless CPUs"),
        pytest.param(_set("rules", 0, "condor", "account", "cms"), "the same for everybody", id="one account for all"),
        pytest.param(
            _set("rules", 0, "condor", "account", "{user}"), "found '{user}', wanted", id="unknown placeholder"
        ),
        pytest.param(_set("rules", 0, "condor", "account", ""), "found ''", id="empty account"),
        pytest.param(
            _set("rules", 0, "condor", "accounting_group", "CMS IT"),
            "found 'CMS IT', wanted small words with dots between; write it",
            id="accounting group with a space",
        ),
        pytest.param(
            _set("rules", 1, "condor", "account", "u-cms-{username}"),
            r"rules\[1\]\.condor\.accounting_group: found 'icsc', but `rules\[0\]` says 'cms.itcms' for the same account",
            id="one account, two groups charged",
        ),
        pytest.param(
            _set(
                "rules",
                1,
                "condor",
                {"account": "u-cms-{username}", "accounting_group": "cms.itcms", "shared_account": True},
            ),
            r"rules\[1\]\.condor\.shared_account: found true, but `rules\[0\]` says nothing",
            id="one account, shared and not",
        ),
        pytest.param(
            _set("rules", 1, "name", "CMS analysts"), r"found 'CMS analysts' as in rules\[0\]", id="double name"
        ),
        pytest.param(_set("issuers", 0, "issuer", "http://iam/"), "found 'http://iam/'", id="issuer without TLS"),
        pytest.param(_set("version", 2), "found 2, wanted 1; this af_hub reads version 1", id="a later version"),
        pytest.param(_set("caches", "near", "url", "xcache"), "found 'xcache'", id="no root URL"),
        pytest.param(_set("facility", "name", "${af_name}"), r"found '\$\{af_name\}', wanted `\$\{NAME\}`", id="small"),
        pytest.param(_set("facility", "name", "${AF"), r"found '\$\{AF', wanted `\$\{NAME\}`", id="open variable"),
    ],
)
def test_a_mistake_is_named_with_its_place(edit, says):
    policy = shipped()
    edit(policy)
    with pytest.raises(PolicyError, match=says) as error:
        read(policy)
    assert len(str(error.value).splitlines()) == (2 if "none of" in says else 1), str(error.value)


@pytest.mark.parametrize(
    "old, new, says",
    [
        pytest.param("memory: 2 GiB}", "memory: much}", "sizes.small.memory: found 'much'", id="a value"),
        pytest.param("    login: true", "\tlogin: true", "found a tab at the start, wanted spaces", id="a tab"),
        pytest.param("    login: true", "    login: true: 1", "no YAML", id="two colons"),
        pytest.param("version: 1", 'version: "1', "no YAML .*look for a missing quote", id="an open quote"),
        pytest.param("{title: Small", "title: {Small", "no YAML", id="an open bracket"),
        pytest.param("  small:", "  medium:", "sizes.medium: found twice, first in line", id="a double key"),
        pytest.param("version: 1", "version: 1\x07", "found the character U\\+0007", id="a bell"),
        pytest.param("name: AF Hub", "name: 2026-99-99", "looks like a number or a date", id="no date"),
        pytest.param("name: AF Hub", "name: !!python/name:os.system x", "no YAML", id="code"),
        pytest.param("name: AF Hub", "name: &a [*a]", "holds itself", id="an alias that holds itself"),
    ],
)
def test_a_mistake_is_named_with_its_line(old, new, says):
    assert old in SHIPPED.read_text()
    text = SHIPPED.read_text().replace(old, new, 1)
    with pytest.raises(PolicyError, match=says) as error:
        read(text)
    rows = zip(text.split("\n"), SHIPPED.read_text().split("\n"), strict=False)
    changed = next(number for number, (new, old) in enumerate(rows, 1) if new != old)
    first = int(re.findall(r"^facility\.yaml, line (\d+)", str(error.value), re.M)[0])
    assert changed <= first <= changed + (1 if "quote" not in says else 0) or "twice" in says


@pytest.mark.parametrize(
    "text, says",
    [
        ("- a", "found a list, wanted keys"),
        ("", "found an empty file, wanted keys"),
        ("# only words\n", "found an empty file"),
        ("hello", "found a text without keys"),
        ("a: [", "line 1: no YAML"),
        ("a: 1\n---\nb: 2", "line 2: no YAML"),
        ("x" * 2**22, "found 4194304 characters"),
        ("a: " + "[" * 10_000, "more than 20 parts inside each other"),
        (
            "a: &a [x, x]\n" + "".join(f"{c}: &{c} [" + f"*{p}, " * 9 + "]\n" for p, c in pairwise("abcdefgh")),
            "values once",
        ),
        (b"a: \xe4", "line 1: found the byte 0xe4, wanted UTF-8"),
        (b"a: 1\nb: \xff", "line 2: found the byte 0xff"),
    ],
)
def test_what_is_no_policy_at_all(text, says):
    with pytest.raises(PolicyError, match=says):
        read_policy(text, "facility.yaml", {}, lenient=True)


def test_merged_parts_that_contradict_each_other():
    text = SHIPPED.read_text().replace(
        "  small: {",
        "  a: &a {title: A, cpus: 1, memory: 1 GiB}\n  b: &b {title: B, cpus: 1, memory: 1 GiB}\n  small: {<<: [*a, *b], ",
    )
    assert read(text).sizes["small"].title == "Small"
    with pytest.raises(
        PolicyError, match=r"sizes\.small\.title: found two merged parts that differ, lines \d+ and \d+"
    ):
        read(text.replace("title: Small, ", ""))


def test_all_mistakes_come_at_once_in_the_order_of_the_file():
    policy = shipped()
    policy["sizes"]["small"]["memory"] = "x"
    policy["rules"][0]["imagse"] = []
    policy["rules"][1]["sites"] = ["nowhere"]
    policy["facility"]["name"] = "${UNSET_HERE}"
    del policy["pools"]
    with pytest.raises(PolicyError) as error:
        read_policy(
            yaml.safe_dump(policy, sort_keys=False),
            "facility.yaml",
            {
                "AF_PUBLIC_URL": "https://h/",
                "AF_IMAGES": "/i",
                "AF_REGISTRY": "",
                "AF_XROOTD_CACHE": "root://c",
                "AF_XROOTD_CA_FILE": "",
            },
        )
    lines = [int(number) for number in re.findall(r"^facility\.yaml, line (\d+), ", str(error.value), re.M)]
    assert len(lines) == len(str(error.value).splitlines()) == 7 and lines == sorted(lines)


@pytest.mark.parametrize("kind", ["missing", "a folder", "forbidden"])
def test_a_file_that_cannot_be_read_is_said_so(tmp_path, kind):
    path = tmp_path / "facility.yaml"
    if kind == "a folder":
        path.mkdir()
    if kind == "forbidden":
        path.touch(mode=0o000)
        if os.access(path, os.R_OK):
            pytest.skip("this user reads every file")
    with pytest.raises(PolicyError, match=r"cannot be read .*; put it there, readable"):
        load_policy(path)


# What people could have in such a file, and what nobody has.
KEYS = st.sampled_from(
    [*Policy.model_fields, *Rule.model_fields, *Condor.model_fields, "<<", "python-base", "T2_A", "${X}"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary() | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text() | st.integers(), inner, max_size=4),
    max_leaves=20,
)


def only_a_policy_or_our_own_error(content):
    try:
        assert isinstance(read_policy(content, "facility.yaml", {}), Policy)
    except PolicyError as error:
        assert str(error).encode(), "fit for any log"


@settings(deadline=None, max_examples=300)
@given(st.text() | st.binary() | st.text(alphabet="[]{}:,-&*!|>'\"#%@` \n\tab<0.1~?=_"))
def test_no_text_ends_in_anything_else(content):
    only_a_policy_or_our_own_error(content)


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_no_values_end_in_anything_else(values):
    only_a_policy_or_our_own_error(yaml.dump(values))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_edit_ends_in_anything_else(data):
    """The shipped file, with one of its values replaced, or a piece of its text."""
    policy = shipped()
    part = policy
    while isinstance(part, dict | list) and part:
        step = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[step], dict | list) or data.draw(st.booleans()):
            part[step] = data.draw(VALUES)
            break
        part = part[step]
    only_a_policy_or_our_own_error(yaml.dump(policy))
    text = SHIPPED.read_text()
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    only_a_policy_or_our_own_error(text[:first] + data.draw(st.text(max_size=5)) + text[last:])


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "facility.yaml"
    text = SHIPPED.read_text().replace("${AF_XROOTD_CACHE}", "root://cache").replace("${AF_REGISTRY}", '""')
    path.write_text(text.replace("${AF_PUBLIC_URL}", "https://hub.test/").replace("${", "$ {"))
    return path


def rested():
    return time.time() + 60


def test_an_edit_holds_and_a_broken_one_changes_nothing(place, caplog):
    file = PolicyFile(place, clock=rested)

    def write(text):
        (place.parent / "new").write_text(text)
        (place.parent / "new").replace(place)

    good = place.read_text()
    write(good.replace("name: AF Hub", "name: Another"))
    assert file.current().facility.name == "Another"
    write("broken: [")
    for _ in range(3):
        assert file.current().facility.name == "Another"
    assert caplog.text.count("kept as it was") == 1
    write(good)
    assert file.current().facility.name == "AF Hub"


def test_a_file_that_is_gone_keeps_the_policy(place, caplog):
    now = [time.time() + 60]
    file = PolicyFile(place, clock=lambda: now[0])
    place.unlink()
    for _ in range(3):
        assert file.current().facility.name == "AF Hub"
        now[0] += 2
    assert caplog.text.count("kept as it was") == 1


async def test_a_process_with_a_loop_looks_in_a_thread_and_tells_prometheus(place, monkeypatch):
    file, threads = PolicyFile(place, clock=rested), set()
    look = file.look
    monkeypatch.setattr(file, "look", lambda: (threads.add(threading.current_thread()), look()))
    following = asyncio.create_task(keep_current(file, 0.01))

    async def until(right, overrides):
        async with asyncio.timeout(10):
            while (RIGHT._value.get(), OVERRIDES._value.get()) != (right, overrides):
                await asyncio.sleep(0.01)

    good = place.read_text()
    await until(1, 0)
    place.write_text(
        good + "\noverrides: [{name: o, people: [ada], login: true, until: 2999-01-01T00:00:00Z, reason: r}]\n"
    )
    await until(1, 1)
    place.write_text("broken: [")
    await until(0, 1)
    assert file.current().overrides and threading.main_thread() not in threads
    place.write_text(good)
    await until(1, 0)
    following.cancel()
    await asyncio.wait([following])
    assert not file.followed


def test_a_half_written_file_that_would_be_valid_is_not_taken(place):
    file = PolicyFile(place)
    whole = place.read_text()
    half = whole.replace(whole[whole.index("  - name: ICSC") : whole.index("images:\n  python")], "")
    assert len(read(half).rules) == 1
    place.write_text(half)
    assert len(file.current().rules) == 3
    place.write_text(whole)
    assert len(file.current().rules) == 3
