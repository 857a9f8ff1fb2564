"""Who reads what at a data server or a cache: the files that XRootD's authorization reads, rendered from the policy.

Serves the hop "data". Promises: a path of ``data_paths`` is opened by a token of that issuer whose ``storage.read`` scope holds the path, a
public one by anybody, everything else by nobody. A cache asks the same as the origin, of everybody and for each opening, whatever it
has already; it opens the origin's protected paths under a name of its own. Leaves the keys to :mod:`af_hub.xrootd.keycache`, TLS and
the order of the protocols to ``hub_config/xrootd/tokens.cfg``.

Sources: ``scitokens.cfg``: XRootD, ``src/XrdSciTokens/README.md``, and what 5.8.1 was seen to do: paths in a token stand below ``base_path``
and count as far as they are in a ``restricted_path``, or hold it; whole names are compared (``/protected`` is not ``/protectedness``). The
authorization file: "Authentication & Access Control Configuration Reference", section "Authorization database file"; there the beginning
of a path is enough, so that every folder needs its slash. The keytab: ``xrdsssadmin``, ``src/XrdSecsss/XrdSecsssKT.cc``.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from af_hub.errors import PolicyError
from af_hub.iam.claims import ANY_AUDIENCE
from af_hub.policy.model import Policy
from af_hub.policy.signed import signed_paths

STANDARD_PORT = 1094
# Both files end a value at a blank or a comma, and take these for the begin of a comment.
WORD = re.compile(r"[^\s,;#\"'\\]+")

HEAD = "# Written by af_hub.xrootd.watch from facility.yaml; what is changed here is lost.\n"


def cache_prefixes(origin_url: str) -> tuple[str, ...]:
    """What a forwarding cache has before the paths of this origin: ``/root:/host:port``.

    Raises
    ------
    PolicyError
        When it is not the address of an origin.
    """
    origin = urlsplit(origin_url)
    try:
        host, port = origin.hostname, origin.port or STANDARD_PORT
    except ValueError:
        host, port = None, 0
    if origin.scheme not in ("root", "roots", "xroot", "xroots") or not host:
        raise PolicyError(
            f"found {origin_url!r:.80}, wanted the address of an origin; write it as in root://origin.example.org:1094"
        )
    names = [f"{host}:{port}", *([host] if port == STANDARD_PORT else [])]
    return tuple(f"/{scheme}:/{name}" for scheme in ("root", "xroot") for name in names)


def describe_scitokens(policy: Policy, prefixes: Sequence[str] = ("",), audiences: Sequence[str] = ()) -> str:
    """``scitokens.cfg``: whose tokens open which paths.

    Parameters
    ----------
    prefixes
        What this server has before the paths of the policy; for a cache :func:`cache_prefixes`.
    audiences
        Names of this server that tokens may have as ``aud``, beside those that the policy asks for and the one that means everybody.
    """
    asked = {one.audience for issuer in policy.issuers if (one := policy.tokens_of(issuer.issuer).storage)}
    known = [ANY_AUDIENCE, *sorted({*asked, *audiences} - {ANY_AUDIENCE, ""})]
    sections = [["[Global]", f"audience = {_words(known)}"]]
    sections += [
        [
            f"[Issuer {name}]",
            f"issuer = {_words([issuer])}",
            f"base_path = {_words(prefix or '/' for prefix in prefixes)}",
            f"restricted_path = {_words(paths)}",
        ]
        for name, issuer, paths in openers(policy)
    ]
    return HEAD + "\n".join("\n".join([*lines, ""]) for lines in sections)


def openers(policy: Policy) -> list[tuple[str, str, list[str]]]:
    """Each issuer whose tokens open something: a name, its ``iss``, and the folders.

    What the hub signs for people of several issuers is one issuer's here; see :mod:`af_hub.policy.signed`.
    """
    found = [(one.name, one.issuer, one.data_paths) for one in policy.issuers if one.data_paths]
    signed = signed_paths(policy)
    return [*found, *([("of the hub itself", policy.own_issuer, signed)] if signed else [])]


def describe_authorizations(
    public: Sequence[str], prefixes: Sequence[str] = ("",), names: Mapping[str, Sequence[str]] | None = None
) -> str:
    """``authdb``: which paths anybody may read, and which the caches, by the names in their keys.

    Parameters
    ----------
    public
        Folders, as ``/store``.
    names
        The folders that each cache may read besides; for an origin.
    """
    whole = {"*": public, **(names or {})}
    lines = [
        f"u {name} " + " ".join(f"{_words([prefix + path.rstrip('/')])}/ lr" for prefix in prefixes for path in paths)
        for name, paths in whole.items()
        if paths
    ]
    return HEAD + "\n".join([*lines, ""])


def new_cache_key(now: float) -> str:
    """A keytab for a cache and its origin: who has it is that cache.

    Its name cannot be guessed: a client without a token logs in under a name of its own choice.
    """
    name, number = f"cache-{secrets.token_hex(16)}", secrets.randbits(62)
    return f"0 u:{name} g:cache n:af-hub N:{number} c:{int(now)} e:0 f:0 k:{secrets.token_hex(32)}\n"


def read_cache_names(keytab: str) -> list[str]:
    """The names in a keytab, each once."""
    return list(dict.fromkeys(re.findall(r"(?m)^\d .*?\bu:(\S+)", keytab)))


def describe_rules(
    policy: Policy,
    public: Sequence[str],
    prefixes: Sequence[str] = ("",),
    audiences: Sequence[str] = (),
    caches: Sequence[str] = (),
) -> dict[str, str]:
    """Both files of a server, by name; ``caches`` are those that read an origin's protected paths.

    Raises
    ------
    PolicyError
        When something in the policy cannot be written into them.
    """
    protected = list(dict.fromkeys(path for _, _, paths in openers(policy) for path in paths))
    return {
        "scitokens.cfg": describe_scitokens(policy, prefixes, audiences),
        "authdb": describe_authorizations(public, prefixes, dict.fromkeys(caches, protected)),
    }


def _words(words: Iterable[str]) -> str:
    found = list(words)
    for word in found:
        if not WORD.fullmatch(word):
            raise PolicyError(
                f"found {word!r:.80}, wanted something without blanks, commas, quotes, `;` and `#`, since XRootD's files have no way to "
                "write them; rename it"
            )
    return ", ".join(found)
