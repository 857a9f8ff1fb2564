"""How XRootD clients find the nearest cache: environment and one file, the same for sessions and for jobs at a site.

Serves the hop "data". Promises: what opens ``root://anywhere//file`` (XRootD's bindings, uproot, ROOT, xrdcp; any version) reads it
through the cache, and from the origin while the cache is down; where neither answers, or no signpost stands, it is an error after
seconds. XRootD's own plugin does it, which puts the address of cache or signpost before that of the file. It redirects files only:
``stat``, ``ls`` and sums go to the origin. Where data are protected, the token of ``BEARER_TOKEN_FILE`` opens them, at the cache as at the
origin, over TLS. Leaves the choice between cache and origin to :mod:`af_hub.session.signpost`, the caches
to ``hub_config/xrootd``.

A server learns the token at the login only, and a connection lives long: the signpost has whoever has a new token log in anew.

Limits: the plugin cannot tell hosts from their ports, so a cache may not run on the host of an origin; ``roots://`` is not redirected.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from af_hub.errors import PolicyError
from af_hub.session.fragments import SessionFragment

PROXY, CACHE = "XROOT_PROXY", "AF_CACHE"
"""The first names the cache to XRootD, or the signpost before it; then the second says which cache that is."""

AUTHORITIES = "X509_CERT_DIR"
"""The folder of certificate authorities that XRootD's clients trust."""

PLUGIN_FOLDER, AUTHORITIES_FOLDER = "xrd.d", "authorities"
PLUGIN_FILE = "50-af-cache.conf"

# No path and no version in `lib`: each XrdCl finds the plugin that was built with it. Not `url = *`, and not the variable
# XRD_PLUGIN: both would redirect the local end of a copy too, which then fails (seen with XRootD 5.5 to 6.2).
PLUGIN_CONFIGURATION = """\
# root:// files are read through the cache that XROOT_PROXY names; XROOT_PROXY= (empty) reads them directly.
url = root://*;xroot://*
lib = libXrdClProxyPlugin.so
enable = true
"""

# Seconds. When they are unset, a cache that is down lets a client hang for eight to eleven minutes, and its failure is remembered
# for half an hour. Three attempts of five seconds outlive a cache that restarts, with no read lost.
PATIENCE = {
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "3",
    "XRD_TIMEOUTRESOLUTION": "1",
    "XRD_STREAMERRORWINDOW": "10",
    "XRD_REQUESTTIMEOUT": "300",
    # After a minute without work a connection ends, and the next one logs in with the token of then. Where there is a signpost, or a
    # connection is never idle, this is not what keeps the token fresh.
    "XRD_DATASERVERTTL": "60",
}


def xrootd_environment(
    cache_url: str, plugin_folder: str, exclusions: Sequence[str] = (), authorities_folder: str = ""
) -> dict[str, str]:
    """What a process needs to read through the cache; for a site, what ``STARTER_JOB_ENVIRONMENT`` gives to its jobs.

    Parameters
    ----------
    cache_url
        ``root://host:port``.
    plugin_folder
        The folder that holds :data:`PLUGIN_FILE`, as an absolute path where the process runs.
    exclusions
        Hosts, or ends of their names, that are read and written directly; such as the storage for output, as a cache is read-only.
    authorities_folder
        The folder that holds :func:`af_hub.session.authorities.authority_files`, where the process runs; XRootD's own choice when empty.

    Raises
    ------
    PolicyError
        When the address is not that of a cache, or XRootD would silently pass over an exclusion.
    """
    cache = urlsplit(cache_url)
    if cache.scheme not in ("root", "roots") or not cache.hostname or not cache.port:
        raise PolicyError(
            f"{cache_url!r} is not the address of a cache; it looks like root://cache.example.org:1094 (caches in facility.yaml)"
        )
    proxy = f"{cache.scheme}://{cache.netloc}//"
    for name in exclusions:
        # XrdClProxyPlugin compares the wrong lengths (5.8 and 6.2).
        if len(name) > len(proxy):
            raise PolicyError(
                f"XRootD overlooks the exclusion {name!r}, as it is longer than {proxy!r}; give a shorter end of the name"
            )
    return {
        "XRD_PLUGINCONFDIR": plugin_folder,
        PROXY: proxy,
        # Upper case: XRootD ignores the lower-case name. The cache itself, lest somebody who names it gets there twice.
        "XROOT_PROXY_EXCL_DOMAINS": ",".join([cache.hostname, *exclusions]),
        # Processes that fork (multiprocessing, ROOT) hang without it.
        "XRD_RUNFORKHANDLER": "1",
        **PATIENCE,
        **({AUTHORITIES: authorities_folder} if authorities_folder else {}),
    }


def xrootd_fragment(
    folder: str,
    cache_url: str,
    exclusions: Sequence[str] = (),
    signpost: bool = False,
    authorities: Mapping[str, str] | None = None,
) -> SessionFragment:
    """``root://`` read through the cache at ``cache_url``, in a session whose folder is ``folder``.

    With a ``signpost`` clients will ask there first: whoever listens for it puts its address into :data:`PROXY`. The ``authorities`` are
    those behind the servers' certificates (:func:`af_hub.session.authorities.authority_files`); clients then trust no others.
    """
    at = f"{folder}/{AUTHORITIES_FOLDER}" if authorities else ""
    environment = xrootd_environment(cache_url, f"{folder}/{PLUGIN_FOLDER}", exclusions, at)
    if signpost:
        environment[CACHE] = cache_url
    return SessionFragment(
        environment=environment,
        files={
            f"{PLUGIN_FOLDER}/{PLUGIN_FILE}": PLUGIN_CONFIGURATION,
            **{f"{AUTHORITIES_FOLDER}/{name}": pem for name, pem in (authorities or {}).items()},
        },
    )


def signpost_url(port: int) -> str:
    """What :data:`PROXY` shall be where a signpost listens at this port of the loopback."""
    return f"root://127.0.0.1:{port}//"


def datasets_fragment(datasets: Mapping[str, Sequence[str]]) -> SessionFragment:
    """The datasets that a facility offers, by name, each as its ``root://`` addresses; :mod:`af_hub.client.data` reads them."""
    return SessionFragment(
        environment={"AF_DATASETS": json.dumps({name: list(urls) for name, urls in datasets.items()})}
    )
