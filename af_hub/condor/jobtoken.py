"""The token that plain batch jobs read data with: its names on the hop access point → job, and how they are written and read.

An access point with ``condor_credd`` (hub_config/condor/access-point.conf) keeps one token for each account and hands it to those of the
account's jobs that ask for it by ``OAuthServicesNeeded``, again whenever it was replaced. In the job it is the file that
``BEARER_TOKEN_FILE`` names. :mod:`af_hub.controller.batch` brings it there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SERVICE = "iam"
"""The only service of which the access point takes and gives tokens; the job's file is ``$_CONDOR_CREDS/iam.use``."""

ATTRIBUTE = "OAuthServicesNeeded"

WAITING_OR_RUNNING = f'{ATTRIBUTE} =?= "{SERVICE}" && JobStatus =!= 3 && JobStatus =!= 4'
"""Jobs that still need it: neither removed nor ended."""

OWNER_ATTRIBUTES = ("Owner", "AuthTokenIssuer", "AuthTokenSubject")

SUBMIT_ENVIRONMENT = {"_condor_SUBMIT_ATTRS": ATTRIBUTE, f"_condor_{ATTRIBUTE}": f'"{SERVICE}"'}
"""Makes ``condor_submit`` and ``htcondor2.Submit`` ask for it in every job (HTCondor manual, ``SUBMIT_ATTRS``)."""

SUBMIT_LINE = f'My.{ATTRIBUTE} = "{SERVICE}"'

# hub_config/condor/access-point.conf gives condor_credd this name behind the access point's one port.
SOCKET = "credd"
_SOCKET = re.compile(r"(?<=[?&]sock=)[^&>]+")


@dataclass(frozen=True)
class Owner:
    """Whose a job is: the account, and the subject of the token that it was submitted with, which nobody can forge."""

    account: str
    issuer: str
    subject: str


def read_owners(ads: Iterable[Mapping[str, Any]]) -> frozenset[Owner]:
    """Everybody who has one of these jobs; those that were submitted without a token of an IAM are left out."""
    found = (tuple(ad.get(name) for name in OWNER_ATTRIBUTES) for ad in ads)
    return frozenset(Owner(*(str(value) for value in values)) for values in found if all(values))


def credd_address(schedd: str) -> str:
    """Where ``condor_credd`` is, by the address of the access point that it belongs to.

    It is not asked of the collector: a daemon that advertises itself there needs a right with which it could be any daemon.
    """
    return _SOCKET.sub(SOCKET, schedd)


def with_token(description: str) -> str:
    """The submit description, asking for the token unless it says something about tokens itself."""
    lines = description.splitlines()
    if any(re.match(rf"\s*(\+\s*|my\.)?({ATTRIBUTE}|use_oauth_services)\s*=", line, re.IGNORECASE) for line in lines):
        return description
    return f"{SUBMIT_LINE}\n{description}"
