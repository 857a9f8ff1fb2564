"""Why a server of data says "permission denied": what the token itself tells, in plain words.

Serves the hop "data" for :mod:`af_hub.client.check`. XRootD's servers write the reason into their own logs only. Promises: the first thing
that is wrong, and whom to ask; nothing of the token but what its reader may know.
"""

from collections.abc import Mapping
from typing import Any

from af_hub.iam.scopes import READ, holds, readable_paths


def why_denied(path: str, trouble: str, claims: Mapping[str, Any], now: float) -> str:
    """One or two sentences.

    Parameters
    ----------
    path
        Of the file, at its origin.
    trouble
        What is wrong with the token's file; empty when nothing is.
    claims
        What the token says.
    """
    if trouble:
        return f"It wants a token. {trouble}"
    if (begins := claims.get("nbf", 0)) > now:
        return (
            f"Your token is good only in {begins - now:.0f} s: this machine's clock, or the IAM's, is wrong. Please tell the "
            "facility's administrators."
        )
    scopes = str(claims.get("scope", "")).split()
    folders = readable_paths(scopes)
    if not folders:
        return (
            f"Your token may not read data (its scopes: {' '.join(scopes) or 'none'}). Log out and in again; if that does not help, ask "
            f"your experiment for {READ}."
        )
    if not any(holds(folder, path) for folder in folders):
        return f"Your token reads {', '.join(folders)} and not this. Ask the owner of the data."
    return (
        f"Your token seems right (issuer {claims.get('iss', 'none')}, for {_words(claims.get('aud'))}), but the server does not take it for "
        "this path: it may not know that issuer, or give it no such path. Ask the owner of the data, and tell them this."
    )


def _words(audience: object) -> str:
    found = audience if isinstance(audience, list) else [audience] if audience else []
    return ", ".join(map(str, found)) or "nobody"
