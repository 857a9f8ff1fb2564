"""A real XRootD origin and cache that ask for tokens: TLS, ``ztn`` and SciTokens, on loopback and without root.

Serves the hop "data" in tests and in the demo. ``/store`` is for everybody, ``/protected`` for whoever has a token of an issuer to which
the policy gives it (``data_paths``). The certificates are of an authority made for the occasion, and the issuers' keys lie in the
daemons' own caches, as nobody serves them by HTTPS here; :meth:`ProtectedService.bring_keys` or ``python -m af_hub.xrootd.watch`` brings new ones.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from af_hub.files import private_folder, write_private
from af_hub.policy.model import Policy
from af_hub.testing.certificates import Authority
from af_hub.testing.iam_authority import ISSUER
from af_hub.testing.xrootd import (
    ORIGIN_HOST,
    PROTECTED,
    PUBLIC,
    Cache,
    DataService,
    Origin,
    Progress,
    xrootd_folder,
)
from af_hub.xrootd.access import cache_prefixes, describe_rules, new_cache_key, read_cache_names
from af_hub.xrootd.keycache import write_keys

KEYS_SECONDS = 30 * 86400
KEYTAB = "sss.keytab"


def policy_of(issuers: Iterable[str] = (ISSUER,), path: str = PROTECTED) -> Policy:
    """The least policy whose issuers open this path."""
    found = [{"name": f"issuer{number}", "issuer": one, "data_paths": [path]} for number, one in enumerate(issuers)]
    about = {"name": "AF", "contact": "nobody"}
    return Policy.model_validate({"facility": about, "issuers": found, "rules": [], "images": {}, "sizes": {}})


def prepare_secrets(folder: Path, cache_host: str = "127.0.0.1", origin_host: str = ORIGIN_HOST) -> tuple[Path, Path]:
    """Certificates for an origin and its cache, and the key that makes them known to each other: the folder of each, in ``folder``."""
    authority = Authority(folder / "authority", "AF Hub data service")
    keytab = new_cache_key(time.time())
    found = []
    for name, host in (("origin", origin_host), ("cache", cache_host)):
        secrets = private_folder(folder / name)
        authority.issue(secrets, host)
        write_private(secrets / "ca.pem", authority.file.read_bytes())
        write_private(secrets / KEYTAB, keytab)
        found.append(secrets)
    return found[0], found[1]


def write_rules(server: Origin | Cache, policy: Policy, origin: Origin | None = None) -> None:
    """Who reads what there; for a cache, with the ``origin`` before which it stands."""
    assert server.secrets is not None
    if origin:
        rules = describe_rules(policy, [PUBLIC], cache_prefixes(origin.url))
    else:
        rules = describe_rules(policy, [PUBLIC], caches=read_cache_names((server.secrets / KEYTAB).read_text()))
    for name, text in rules.items():
        write_private(server.secrets / name, text)


@dataclass(frozen=True)
class ProtectedService(DataService):
    """An origin and the cache in front of it, both of which ask for tokens."""

    policy: Policy = field(default_factory=policy_of)

    def bring_keys(self, jwks: Mapping[str, Any], issuer: str = ISSUER) -> None:
        """Let these keys, and no others, be the issuer's from now on; ``jwks`` is what it publishes (RFC 7517)."""
        for server in (self.origin, self.cache):
            assert server.secrets is not None
            write_keys(server.secrets, issuer, dict(jwks), time.time() + KEYS_SECONDS)


@contextmanager
def open_protected_service(
    folder: Path,
    jwks: Mapping[str, Any] | None = None,
    data: Path | None = None,
    policy: Policy | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[ProtectedService]:
    """Start both, with all they need in ``folder``; the origin serves ``store`` and ``protected`` of ``data``.

    Parameters
    ----------
    jwks
        The keys of the demo IAM, as ``iam.keys.published()`` gives them; none when None.
    policy
        Whose tokens open what; :func:`policy_of` when None.
    """
    programs, policy = xrootd_folder(progress), policy or policy_of()
    for_origin, for_cache = prepare_secrets(folder / "secrets")
    origin = Origin(programs, folder / "origin", data, ORIGIN_HOST, secrets=for_origin)
    cache = Cache(programs, folder / "cache", permitted=origin.host, secrets=for_cache)
    service = ProtectedService(origin, cache, policy)
    if jwks:
        service.bring_keys(jwks)
    write_rules(origin, policy)
    with origin:
        write_rules(cache, policy, origin)
        with cache:
            yield service
