"""The forms that values of ``facility.yaml`` have, and how a person is told of each; what all its parts have in common.

Serves the modules of the model (:mod:`af_hub.policy.model`), which say what each value means.
"""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from af_hub.policy.units import (
    BYTES_SCHEMA,
    INSTANT_SCHEMA,
    QUOTA_SCHEMA,
    SECONDS_SCHEMA,
    read_bytes,
    read_instant,
    read_quota,
    read_seconds,
)
from af_hub.registry.patterns import registry_of
from af_hub.registry.reference import REGISTRY

NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$"
GROUP = r"^/[^\s/]+(/[^\s/]+)*$"
PREFIX = r"^(/[^\s/]+(/[^\s/]+)*)?$"
ISSUER = r"^(https://[^\s/]+|\$\{.*)"
CACHE = r"^(roots?://[^\s/]+|\$\{.*)"
SCOPE = r"^[\x21\x23-\x5b\x5d-\x7e]+$"
USER = r"^[a-z][a-z0-9_.-]{0,62}$"
PAGE = r"^(https?://[^\s/]+|\$\{.*)"
HELP = r"^(https?://[^\s/]+.*/|\$\{.*)?$"
FOLDER = r"^(/[A-Za-z0-9_~+@:-][A-Za-z0-9_.~+@:-]*)+$"
LABEL = r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$"
MOUNT = r"^(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$"
HOST_PATH = r"^((/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+|\$\{.*)?$"
CLAIM = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\$\{.*)?$"
STORAGE_CLASS = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
REPOSITORY = r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$"
# No hyphen: HTCondor's settings are called after the group, and a negotiator that reads one in a setting's name ends.
CHARGED = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"
REGISTRY_HOST = rf"^{REGISTRY}$"
ADDRESS = r"^(https?://[^\s/?#@]+/?|\$\{.*)?$"
VERSION = r"^[0-9]+(\.[0-9]+){0,2}$"
_K8S_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
RESOURCE = rf"^([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_K8S_WORD}$"
NODE_VALUE = rf"^({_K8S_WORD})?$"
PATTERNS = {
    REGISTRY_HOST: "a registry as names of images begin with it: a host in small letters, and a port if need be; write it as in `registry.example.org`",
    ADDRESS: "the address of a registry without a path, or nothing; write it as in `https://registry.example.org`",
    VERSION: 'a version in quotes; write it as in `"4.0"`',
    RESOURCE: "a name as Kubernetes has it; write it as in `nvidia.com/gpu`",
    NODE_VALUE: "the value of a label as Kubernetes has it: letters, digits, `_`, `.`, `-`, 63 at most; put numbers in quotes",
    NAME: "a name: a letter, then letters, digits, `_`, `.`, `-`, 63 at most; rename it",
    GROUP: "the path of a group; write it with a slash in front and none behind, as in `/cms/itcms`",
    PREFIX: "the path of a group, or nothing; write it with a slash in front and none behind, as in `/cms`",
    ISSUER: "the address of an IAM, with https; write it as its tokens do, as in `https://iam.example.org/`",
    CACHE: "the address of a cache; write it as in `root://cache.example.org:1094`",
    SCOPE: "one scope (RFC 6749, section 3.3); write each as an entry of its own",
    USER: "a user name of the hub: small letters, digits, `_`, `.`, `-`, a letter first; write it as in `ada`",
    HELP: "the address of a web page with a slash behind, or nothing; write it as in `https://hub.example.org/`",
    CHARGED: "small words of letters, digits and `_` with dots between (HTCondor's settings have no hyphens); write it as in `cms.itcms`",
    FOLDER: "the path of a folder, with a slash in front and none behind, and no part that begins with a dot; write it as in `/protected`",
    LABEL: "a name of small letters, digits and `-`, a letter first, 50 at most (pods have no other); rename it",
    MOUNT: "the path of a folder: letters, digits, `_`, `.`, `-`, with a slash in front and none behind, and no part that begins with a dot; "
    "write it as in `/shared/cms`",
    HOST_PATH: "the path of a folder of the nodes, or nothing; write it as in `/cvmfs`",
    CLAIM: "the name of a PersistentVolumeClaim, or nothing; write it as in `cvmfs`",
    STORAGE_CLASS: "the name of a StorageClass, or nothing; write it as in `local-path`",
    REPOSITORY: "the whole name of a CVMFS repository; write it as in `cms.cern.ch`",
    PAGE: "the address of a web page; write it as in `https://iam.example.org/aup`",
}
"""What a text must look like, and how a person is told."""

Bytes = Annotated[int, BeforeValidator(read_bytes), Field(gt=0), WithJsonSchema(BYTES_SCHEMA)]
Seconds = Annotated[int, BeforeValidator(read_seconds), Field(gt=0), WithJsonSchema(SECONDS_SCHEMA)]
Instant = Annotated[datetime, BeforeValidator(read_instant), WithJsonSchema(INSTANT_SCHEMA)]
Quota = Annotated[int | float, BeforeValidator(read_quota), WithJsonSchema(QUOTA_SCHEMA)]
Name = Annotated[str, Field(pattern=NAME)]
Group = Annotated[str, Field(pattern=GROUP)]
Scope = Annotated[str, Field(pattern=SCOPE)]
User = Annotated[str, Field(pattern=USER)]
AccountingGroupName = Annotated[str, Field(pattern=CHARGED)]
DataPath = Annotated[str, Field(pattern=FOLDER)]
VolumeName = Annotated[str, Field(pattern=LABEL)]
Repository = Annotated[str, Field(pattern=REPOSITORY)]
RegistryHost = Annotated[str, Field(pattern=REGISTRY_HOST)]
Resource = Annotated[str, Field(pattern=RESOURCE)]
NodeValue = Annotated[str, Field(pattern=NODE_VALUE)]
Amount = Annotated[int, Field(gt=0, strict=True)]


def _of_one_registry(found: str) -> str:
    registry_of(found)
    return found


ImagePattern = Annotated[str, AfterValidator(_of_one_registry)]


class Part(BaseModel):
    """What all parts of the file have in common: no unknown keys, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
