"""What works in this session, in plain words: token, cache, data, CVMFS, sites.

Serves the first cell of the welcome notebook and ``python -m af_hub.client.check [--json]``. Promises: it ends within seconds
whatever is broken, says for each thing what is wrong and what helps, and never shows the token. Leaves mending to the people
whom it names.

Each thing is looked at by a ``look_at_*`` (acts) and judged by a ``judge_*`` (decides).
"""

import base64
import binascii
import html
import json
import os
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from af_hub.client.data import read_datasets
from af_hub.client.denied import why_denied
from af_hub.client.wlcg import token_places
from af_hub.errors import AFError
from af_hub.session.cvmfs import FOLDER, Repository, read_repositories
from af_hub.session.cvmfs_look import Looker
from af_hub.session.probes import xrootd_answers
from af_hub.session.xrootd import AUTHORITIES, CACHE, PROXY

READ_SECONDS = 10
CONTROLLER_SECONDS = 5
# XRootD takes no token above this size; and no token from a file that others may read (ztn, XRootD 5.5 to 6.2).
TOKEN_BYTES = 4096
LATE_SECONDS = 60
DENIED = "[3010]"
SYSTEM_AUTHORITIES = "/etc/grid-security/certificates"
RESTART = "Stop and start your server (File > Hub Control Panel)"
ASK = "tell the facility's administrators"
LATER = f"Try again in a minute; if it stays so, {ASK}."


@dataclass(frozen=True)
class Row:
    """One line of the answer: what was looked at, whether it works, and a sentence."""

    what: str
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """The whole answer; a notebook shows it as a table, ``print`` as text."""

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it works."""
        return all(row.ok for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": self.ok, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        width = max(len(row.what) for row in self.rows)
        return "\n".join(f"{'ok  ' if row.ok else 'BAD '} {row.what:{width}}  {row.sentence}" for row in self.rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = "style='text-align:left;padding:.35em .8em'"
        lines = [
            f"<tr><td {cell}><span style='color:{'#1a7f37' if row.ok else '#cf222e'}'>{'✔' if row.ok else '✘'}</span></td>"
            f"<td {cell}><b>{html.escape(row.what)}</b></td><td {cell}>{html.escape(row.sentence)}</td></tr>"
            for row in self.rows
        ]
        return f"<table>{''.join(lines)}</table>"


# --- token -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenFile:
    """A token as it was found, without the token: file, permission bits, bytes, and when it expires (None: it does not say)."""

    path: Path
    mode: int
    size: int
    expires_at: float | None


def read_claims(token: bytes) -> dict[str, Any]:
    """What a JSON Web Token says (RFC 7519), nothing when it is none; its signature is not for the reader's eyes."""
    try:
        payload = token.strip().split(b".")[1]
        found = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def read_expiry(token: bytes) -> float | None:
    """Its ``exp``, in Unix seconds."""
    try:
        return float(read_claims(token)["exp"])
    except (KeyError, TypeError, ValueError):
        return None


def look_at_token(environ: Mapping[str, str]) -> Row:
    """The file that XRootD and HTCondor would take the token from."""
    if environ.get("BEARER_TOKEN"):
        return Row(
            "token",
            False,
            "BEARER_TOKEN is set, so programs take that token and not the fresh one of the session. Type: unset BEARER_TOKEN.",
        )
    places = token_places(environ, os.getuid())
    for path in places:
        try:
            status, token = path.stat(), path.read_bytes()
        except OSError:
            continue
        return judge_token(TokenFile(path, stat.S_IMODE(status.st_mode), len(token), read_expiry(token)), time.time())
    return Row(
        "token",
        False,
        f"There is no token in {' or '.join(map(str, places))}. {RESTART}; if that does not help, {ASK}.",
    )


def judge_token(token: TokenFile, now: float) -> Row:
    """Whether servers will take it, and for how long."""
    if token.mode & 0o077:
        return Row(
            "token",
            False,
            f"Others may read {token.path} (mode {token.mode:04o}), so XRootD will not use it. Type: chmod 600 {token.path}.",
        )
    if not 0 < token.size <= TOKEN_BYTES:
        return Row("token", False, f"The token has {token.size} bytes; XRootD takes 1 to {TOKEN_BYTES}. Please {ASK}.")
    if token.expires_at is None:
        return Row("token", False, f"{token.path} does not hold a token with an expiry date. {RESTART}.")
    left = token.expires_at - now
    if left <= 0:
        return Row(
            "token", False, f"The token expired {in_words(-left)} ago and was not renewed. Log out and in again."
        )
    if left < LATE_SECONDS:
        return Row(
            "token",
            False,
            f"The token expires in {in_words(left)} and should have been renewed before. Log out and in again.",
        )
    return Row("token", True, f"Valid for {in_words(left)} ({token.path}, {token.size} bytes, only you can read it).")


def in_words(seconds: float) -> str:
    """A span of time for people."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- cache and data --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What came of opening one file: the server that gave it (``host:port``), its size in bytes, or XRootD's complaint."""

    url: str
    server: str = ""
    size: int = 0
    complaint: str = ""


def read_canary(url: str) -> Reading:
    """Open a file and read its first bytes, within some seconds."""
    from XRootD import client

    file: Any = client.File()  # type: ignore[attr-defined, no-untyped-call]
    status, _ = file.open(url, timeout=READ_SECONDS)
    if not status.ok:
        return Reading(url, complaint=status.message.strip())
    try:
        status, head = file.read(0, 4, timeout=READ_SECONDS)
        _, about = file.stat(timeout=READ_SECONDS)
        # Without the name under which the signpost has clients log in.
        server, size = file.get_property("DataServer").rpartition("@")[2], about.size if about else 0
    finally:
        file.close(timeout=READ_SECONDS)
    return Reading(url, server, size, complaint=judge_head(status.ok, status.message.strip(), head))


def judge_head(ok: bool, message: str, head: bytes) -> str:
    """The complaint about a file's first four bytes, if there is one."""
    if not ok:
        return message
    return "" if head == b"root" else "it is not a ROOT file"


def look_at_data(environ: Mapping[str, str]) -> list[Row]:
    """The cache, and the facility's datasets read through it, or past it while it is down."""
    signpost = bool(environ.get(CACHE))
    cache = urlsplit(environ.get(CACHE) or environ.get(PROXY, ""))
    if not environ.get(PROXY) or not cache.hostname or not cache.port:
        return [
            Row(
                "cache",
                False,
                f"The session names no cache (XROOT_PROXY), so files come from far away each time. {RESTART}, or {ASK}.",
            )
        ]
    alive = xrootd_answers(cache.hostname, cache.port)
    if not alive and not signpost:
        down = f"The cache {cache.netloc} does not answer, so reading fails. To read from the origins, slowly, type: import os; os.environ['XROOT_PROXY'] = ''."
        return [
            Row("cache", False, f"{down} Please {ASK}."),
            Row("data", False, "Not tried, as the cache does not answer."),
        ]
    try:
        readings = read_canaries(read_datasets(environ))
    except ImportError:
        return [
            Row(
                "cache",
                False,
                "This image has no XRootD library. Choose another image, or type: pip install xrootd fsspec-xrootd.",
            )
        ]
    except AFError as error:
        return [Row("cache", True, f"{cache.netloc} answers."), Row("data", False, str(error))]
    whole = [reading for files in readings.values() for reading in files]
    broken = next((reading for reading in whole if reading.complaint), None)
    if broken and (away := judge_away(broken, alive, origin_answers(broken.url))):
        return [judge_cache(cache.netloc, whole, alive), away]
    if broken and DENIED in broken.complaint:
        sentence = f"You may not read {broken.url}. {look_at_denial(broken.url, environ)}"
        return [judge_cache(cache.netloc, whole, alive), Row("data", False, sentence)]
    return [judge_cache(cache.netloc, whole, alive), judge_data(readings)]


def read_canaries(datasets: Mapping[str, Sequence[str]]) -> dict[str, list[Reading]]:
    """Each file of each dataset; none after the first that fails, since the others would take as long to say the same."""
    readings: dict[str, list[Reading]] = {name: [] for name in datasets}
    for name, urls in datasets.items():
        for url in urls:
            readings[name].append(read_canary(url))
            if readings[name][-1].complaint:
                return readings
    return readings


def look_at_denial(url: str, environ: Mapping[str, str]) -> str:
    """Why a server may have refused this file."""
    authorities = Path(environ.get(AUTHORITIES) or SYSTEM_AUTHORITIES)
    if not authorities.is_dir():
        return f"XRootD finds no certificate authorities here ({authorities}), so that it uses no TLS and shows no token. {RESTART}, or {ASK}."
    token = look_at_token(environ)
    claims: dict[str, Any] = {}
    for path in token_places(environ, os.getuid()) if token.ok else []:
        try:
            claims = read_claims(path.read_bytes())
            break
        except OSError:
            continue
    asked = "/" + urlsplit(url).path.lstrip("/")
    return why_denied(asked, "" if token.ok else token.sentence, claims, time.time())


def origin_answers(url: str) -> bool:
    """Whether there is an XRootD server at the file's own address."""
    origin = urlsplit(url)
    return xrootd_answers(origin.hostname or "", origin.port or 1094)


def judge_away(broken: Reading, cache_answers: bool, origin_answers: bool) -> Row | None:
    """What to say of a file whose origin does not answer; None when it does."""
    origin = urlsplit(broken.url).hostname
    if origin_answers:
        return None
    if cache_answers:
        sentence = f"The origin {origin} does not answer, and the cache has not all of {broken.url}: try again later. What the cache has can be read."
    else:
        sentence = f"Neither the cache nor the origin {origin} answers, so {broken.url} cannot be read. Try again later, and {ASK}."
    return Row("data", False, sentence)


def judge_cache(cache: str, readings: Sequence[Reading], alive: bool = True) -> Row:
    """Whether files came from the cache at ``host:port``, as they should, or past it from their origin."""
    served = [reading for reading in readings if reading.server]
    if not alive:
        so = ", so files come from their origins: slower, but they come" if served else ""
        return Row("cache", False, f"The cache {cache} does not answer{so}. Please {ASK}.")
    past = [reading.server for reading in served if reading.server != cache]
    if past:
        why = "The redirection is not in force in this process (XRD_PLUGINCONFDIR, XROOT_PROXY)"
        return Row(
            "cache",
            False,
            f"Files come from {past[0]} and not from the cache {cache}. {why}: restart the kernel, or {ASK}.",
        )
    if not served:
        return Row("cache", True, f"{cache} answers; no file was read to see whether it is used.")
    return Row("cache", True, f"Files come from the cache {cache}.")


def judge_data(readings: Mapping[str, Sequence[Reading]]) -> Row:
    """Whether each file of each dataset opened."""
    broken = [reading for files in readings.values() for reading in files if reading.complaint]
    if broken:
        return Row(
            "data", False, f"{broken[0].url} could not be read: {broken[0].complaint}. {remedy(broken[0].complaint)}"
        )
    if not readings:
        return Row("data", True, "The facility offers no datasets of its own.")
    words = [
        f"{name} ({len(files)} files, {sum(one.size for one in files) / 1e6:.0f} MB)"
        for name, files in readings.items()
    ]
    return Row("data", True, f"You can read: {', '.join(words)}.")


def remedy(complaint: str) -> str:
    """What helps against XRootD's complaint."""
    for sign, sentence in (
        ("Auth failed", "The server does not take your token: see the line about the token."),
        ("[3010]", "Your token does not allow this: ask the owner of the data."),
        ("[3011]", "There is no such file: ask the owner of the data."),
        ("[3000]", "The cache does not fetch from that host: ask the facility's administrators to permit it."),
        ("expired", "The server took too long: try again in a minute."),
        (
            "onnection",
            "The file's origin does not answer: try again later; files that the cache has already can still be read.",
        ),
    ):
        if sign in complaint:
            return sentence
    return f"Try again; if that does not help, {ASK}."


# --- CVMFS -----------------------------------------------------------------------------------------------------------


def look_at_cvmfs(environ: Mapping[str, str], folder: str = FOLDER) -> list[Row]:
    """A line for each repository that the facility promises; none where it promises none."""
    looker = Looker(read_repositories(environ), folder)
    try:
        return [judge_repository(repository) for repository in looker.look_now()]
    finally:
        looker.close()


def judge_repository(repository: Repository) -> Row:
    """What it is, and whom to ask when it should be otherwise."""
    helps = "" if repository.ok else f" If it stays so, {ASK}."
    return Row(f"cvmfs {repository.name}", repository.ok, f"{repository.sentence}{helps}")


# --- sites -----------------------------------------------------------------------------------------------------------


def look_at_sites(environ: Mapping[str, str]) -> Row:
    """What the controller says about the sites at which this person may start Dask clusters."""
    url, token = environ.get("AF_CONTROLLER_URL", ""), environ.get("JUPYTERHUB_API_TOKEN", "")
    if not url.startswith(("http://", "https://")) or not token:
        return Row(
            "sites", False, f"This is no session of the facility, so there is nobody to ask for sites. {RESTART}."
        )
    request = urllib.request.Request(f"{url.rstrip('/')}/api/sites", headers={"Authorization": f"token {token}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=CONTROLLER_SECONDS) as answer:  # noqa: S310
            return judge_sites(answer.status, json.load(answer))
    except urllib.error.HTTPError as error:
        return judge_sites(error.code, None)
    except (OSError, ValueError) as error:
        return Row(
            "sites",
            False,
            f"No cluster can be started now, as the controller does not answer ({type(error).__name__}). {LATER}",
        )


def judge_sites(status: int, answer: Any) -> Row:
    """The controller's answer in words; ``answer`` is the list of sites, each with a name."""
    if status in (401, 403):
        return Row("sites", False, f"The controller does not know you any more (HTTP {status}). {RESTART}.")
    if status >= 500:
        return Row("sites", False, f"No cluster can be started now, as the controller is away (HTTP {status}). {LATER}")
    try:
        names = [str(site["name"]) for site in answer]
    except (TypeError, KeyError):
        return Row("sites", False, f"The controller gave an answer that cannot be read (HTTP {status}). Please {ASK}.")
    if not names:
        return Row(
            "sites",
            False,
            "Your groups give you no site. Ask your experiment's administrators for the group that does.",
        )
    return Row("sites", True, f"You can start clusters at: {', '.join(names)}.{say_shared(answer)}")


def say_shared(sites: Any) -> str:
    """A sentence about those of the sites where people are not kept apart; nothing when there are none."""
    shared = [str(site["name"]) for site in sites if site.get("shared")]
    return f" Jobs of other people there can read yours: {', '.join(shared)}." if shared else ""


# --- all of it -------------------------------------------------------------------------------------------------------


def check(environ: Mapping[str, str] = os.environ) -> Report:
    """Look at token, cache, data, CVMFS and sites of this session; ends within seconds, and shows as a table in a notebook."""
    rows = (look_at_token(environ), *look_at_data(environ), *look_at_cvmfs(environ), look_at_sites(environ))
    return Report(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m af_hub.client.check [--json]``; status 0 when all works, 1 otherwise."""
    report = check()
    print(json.dumps(report.as_dict()) if "--json" in (sys.argv[1:] if arguments is None else arguments) else report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
