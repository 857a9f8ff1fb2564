"""facility.yaml as people write it, mistakes included."""

from pathlib import Path

import pytest
import yaml

from af_hub.errors import PolicyError
from af_hub.policy.load import PolicyFile, load_policy, read_policy

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
        "AF_IAM_DISCOVERY": "http://127.0.0.1:1/.well-known/openid-configuration",
        "AF_IMAGES": "/images",
        "AF_CONDOR_COLLECTOR": "localhost:9618",
        "AF_CONDOR_CA_FILE": "/ca.pem",
        "AF_XROOTD_CACHE": "root://127.0.0.1:1094",
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
        pytest.param(_without("facility"), "facility: .*[Ff]ield required", id="a part is missing"),
        pytest.param(_set("rules", 0, "imagse", []), r"rules\.0\.imagse: unknown key", id="a mistyped key"),
        pytest.param(
            _set("rules", 0, "images", ["nope"]), r"rules\[0\]\.images: 'nope' is none of", id="unknown image"
        ),
        pytest.param(
            _set("rules", 0, "sites", ["T2"]), r"rules\[0\]\.sites: 'T2' is none of T2_A, T2_B", id="unknown site"
        ),
        pytest.param(_set("sites", "T2_A", "pool", "x"), r"sites\.T2_A\.pool: 'x' is none of main", id="unknown pool"),
        pytest.param(
            _set("sites", "T2_A", "cache", "x"), r"sites\.T2_A\.cache: 'x' is none of near", id="unknown cache"
        ),
        pytest.param(_set("rules", 0, "groups", []), r"rules\.0\.groups", id="a rule for nobody"),
        pytest.param(_set("rules", 0, "groups", ["cms"]), r"found 'cms'", id="a group without its slash"),
        pytest.param(_set("rules", 0, "groups", ["/"]), r"found '/'", id="a group that is only a slash"),
        pytest.param(
            _set("sizes", "small", "memory", "2 gigs"),
            r"found '2 gigs', wanted a number and one of",
            id="a unit nobody knows",
        ),
        pytest.param(_set("sizes", "small", "cpus", 0), r"found 0", id="no CPU at all"),
        pytest.param(_set("rules", 0, "condor", "account", "cms"), "the same for everybody", id="one account for all"),
        pytest.param(_set("rules", 0, "condor", "account", "{user}"), "found '{user}'", id="unknown placeholder"),
        pytest.param(_set("rules", 0, "condor", "account", ""), "found ''", id="empty account"),
        pytest.param(
            _set("rules", 0, "condor", "accounting_group", "CMS IT"),
            "found 'CMS IT'",
            id="accounting group with a space",
        ),
        pytest.param(
            _set("rules", 1, "condor", "account", "u-cms-{username}"),
            "already charged to 'cms.itcms'",
            id="one account, two groups charged",
        ),
        pytest.param(_set("issuers", 0, "issuer", "http://iam/"), "found 'http://iam/'", id="issuer without TLS"),
        pytest.param(_set("version", 2), "found 2", id="a later version"),
        pytest.param(_set("caches", "near", "url", "xcache"), "found 'xcache'", id="no root URL"),
    ],
)
def test_a_mistake_is_named_with_its_place(edit, says):
    policy = shipped()
    edit(policy)
    with pytest.raises(PolicyError, match=says):
        read(policy)


def test_a_mistake_is_named_with_its_line():
    text = SHIPPED.read_text().replace("memory: 2 GiB}", "memory: much}")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "memory: much" in row)
    with pytest.raises(PolicyError, match=f"line {line}, sizes.small.memory"):
        read(text)


@pytest.mark.parametrize("text, says", [("- a", "found list"), ("", "found NoneType"), ("a: [", "line 1: no YAML")])
def test_what_is_no_policy_at_all(text, says):
    with pytest.raises(PolicyError, match=says):
        read(text)


def test_all_mistakes_come_at_once():
    policy = shipped()
    policy["sizes"]["small"]["memory"] = "x"
    policy["rules"][0]["imagse"] = []
    with pytest.raises(PolicyError) as error:
        read(policy)
    assert len(str(error.value).splitlines()) == 2


def test_an_edit_holds_and_a_broken_one_changes_nothing(tmp_path, caplog):
    path = tmp_path / "facility.yaml"
    path.write_text(SHIPPED.read_text().replace("${AF_XROOTD_CACHE}", "root://cache").replace("${", "$ {"))
    file = PolicyFile(path)

    def write(text):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(path)

    good = path.read_text()
    write(good.replace("name: AF Hub", "name: Another"))
    assert file.current().facility.name == "Another"
    write("broken: [")
    assert file.current().facility.name == "Another"
    assert "kept as it was" in caplog.text
    path.unlink()
    assert file.current().facility.name == "Another"
    write(good)
    assert file.current().facility.name == "AF Hub"
