"""What clients are given so that they read through the cache."""

import configparser
import json
from pathlib import Path

import pytest

from af_hub.errors import PolicyError
from af_hub.session.xrootd import PLUGIN_CONFIGURATION, datasets_fragment, xrootd_environment, xrootd_fragment


def test_a_session_gets_environment_and_file_together():
    fragment = xrootd_fragment("/run/session", "root://cache.example.org:1094", ["output.example.org"])

    assert fragment.environment["XRD_PLUGINCONFDIR"] == "/run/session/xrd.d"
    assert fragment.environment["XROOT_PROXY"] == "root://cache.example.org:1094//"
    assert fragment.environment["XROOT_PROXY_EXCL_DOMAINS"] == "cache.example.org,output.example.org"
    assert list(fragment.files) == ["xrd.d/50-af-cache.conf"]


def test_the_file_redirects_remote_files_only():
    parser = configparser.ConfigParser()
    parser.read_string("[plugin]\n" + xrootd_fragment("/s", "root://cache:1094").files["xrd.d/50-af-cache.conf"])

    assert dict(parser["plugin"]) == {"url": "root://*;xroot://*", "lib": "libXrdClProxyPlugin.so", "enable": "true"}


def test_a_dead_cache_is_a_matter_of_seconds():
    environment = xrootd_environment("root://cache:1094", "/etc/af/xrd.d")

    assert int(environment["XRD_CONNECTIONWINDOW"]) * int(environment["XRD_CONNECTIONRETRY"]) <= 15
    assert int(environment["XRD_STREAMERRORWINDOW"]) <= 10
    assert environment["XRD_TIMEOUTRESOLUTION"] == "1"


def test_the_environment_fits_in_one_line_of_a_site_configuration():
    assert not [value for value in xrootd_environment("root://cache:1094", "/x").values() if set(value) & set(" \t\"'")]


def test_the_page_for_sites_tells_the_same():
    page = (Path(__file__).parents[2] / "docs/how-to/add-a-site.md").read_text()
    environment = xrootd_environment("root://cache.lnl.example.org:1094", "/etc/af-hub/xrd.d")

    assert " \\\n  ".join(f"{name}={value}" for name, value in environment.items()) in page
    assert PLUGIN_CONFIGURATION in page


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("cache.example.org:1094", id="no scheme"),
        pytest.param("root://cache.example.org", id="no port"),
        pytest.param("https://cache.example.org:1094", id="another protocol"),
        pytest.param("root://:1094", id="no host"),
    ],
)
def test_what_is_no_cache_is_refused(url):
    with pytest.raises(PolicyError, match=r"root://cache\.example\.org:1094"):
        xrootd_environment(url, "/x")


def test_an_exclusion_that_xrootd_would_overlook_is_refused():
    with pytest.raises(PolicyError, match="shorter end"):
        xrootd_environment("root://c:1094", "/x", ["a-storage-with-a-long-name.example.org"])


def test_datasets_survive_the_environment():
    environment = datasets_fragment({"dimuon": ("root://o:1//store/a.root",)}).environment

    assert json.loads(environment["AF_DATASETS"]) == {"dimuon": ["root://o:1//store/a.root"]}


def test_the_configurations_name_only_variables_that_are_given():
    folder = Path(__file__).parents[2] / "hub_config/xrootd"
    found = sorted(folder.glob("*.cfg"))
    assert [path.name for path in found] == ["cache.cfg", "open.cfg", "origin.cfg", "tokens.cfg"]
    for path in found:
        directives = [line.split("#")[0] for line in path.read_text().splitlines()]
        given = {line.split()[1] for line in directives if line.startswith("set ")}
        used = {part.split(")")[0] for line in directives for part in line.split("$(")[1:]}
        assert used == given, path.name
        variables = {line.split("$")[1] for line in directives if line.startswith("set ")}
        assert not [
            name for name in variables if f"#   {name} " not in path.read_text() and name != "AF_XROOTD_SECRETS"
        ]


def test_authorities_come_with_the_variable_that_names_their_folder():
    fragment = xrootd_fragment("/s", "root://cache:1094", authorities={"0a1b2c3d.0": "PEM"})

    assert fragment.environment["X509_CERT_DIR"] == "/s/authorities"
    assert fragment.files["authorities/0a1b2c3d.0"] == "PEM"
    assert "X509_CERT_DIR" not in xrootd_fragment("/s", "root://cache:1094").environment
