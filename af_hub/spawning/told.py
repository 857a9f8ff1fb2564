"""What others say of a pod, in our words: the scheduler of nodes that do not take it, containerd of images that it does not get; pure.

Source of their words: the scheduler's ``FailedScheduling``; containerd's sentences about pulls. As Kubernetes 1.34 and containerd 1.6 and 2.0
have them.
"""

import re

_NODES = re.compile(r"(\d+) ([^,]+?)(?=, \d+ |$)")
_UNFIT = (
    (re.compile(r"Insufficient cpu"), "with too few free cores"),
    (re.compile(r"Insufficient memory"), "with too little free memory"),
    (re.compile(r"Insufficient (ephemeral-storage)"), "with too little free disk"),
    (re.compile(r"Insufficient (\S+)"), "with no free {0}"),
    (re.compile(r"Too many pods"), "with as many pods as they take"),
    (re.compile(r"untolerated taint"), "kept for other work, or not ready"),
    (re.compile(r"were unschedulable"), "being emptied for maintenance"),
    (re.compile(r"didn't match Pod's node (affinity|selector)"), "of another kind than this size wants"),
    (re.compile(r"volume node affinity conflict"), "away from your storage"),
    (re.compile(r"didn't find available persistent volumes|unbound immediate|being used"), "without storage for you"),
)
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)')


def why_no_node(message: str) -> str:
    """The scheduler's ``0/3 nodes are available: …`` as a part of a sentence."""
    if found := _CLAIM.search(message):
        return (
            f"the claim {found[1]} for its storage {'is not there' if found[2] == 'not found' else 'is being removed'}"
        )
    if "unbound immediate PersistentVolumeClaims" in message:
        return "its storage is not there yet"
    said = message.partition("nodes are available:")[2].partition(". ")[0].rstrip(".")
    reasons = [f"{number} {_in_words(reason)}" for number, reason in _NODES.findall(said.strip())]
    return f"of the nodes {', '.join(reasons)}" if reasons else message.strip().rstrip(".") or "no node takes it"


def _in_words(reason: str) -> str:
    for pattern, words in _UNFIT:
        if found := pattern.search(reason):
            return words.format(*found.groups())
    return f'"{reason.strip()}"'


_FINAL_PULLS = (
    (re.compile(r"no match for platform|no matching manifest"), "is not made for the processors of the nodes"),
    (re.compile(r"invalid reference|InvalidImageName|couldn't parse image"), "has a name that is none"),
    (
        re.compile(
            r"pull access denied|insufficient_scope|unauthorized|401 Unauthorized|403 Forbidden|denied", re.IGNORECASE
        ),
        "may not be pulled by the nodes: the registry shows it to others only, or does not have it",
    ),
    (re.compile(r"not found|manifest unknown|404 Not Found", re.IGNORECASE), "is not in its registry"),
)
_PULL_AGAIN = (
    (re.compile(r"no space left|DiskPressure|disk pressure", re.IGNORECASE), "the node's disk is full"),
    (re.compile(r"toomanyrequests|429", re.IGNORECASE), "the registry wants us to ask later"),
    (
        re.compile(
            r"refused|timeout|timed out|no such host|name resolution|unreachable|EOF|reset by peer|5\d\d ",
            re.IGNORECASE,
        ),
        "the registry does not answer",
    ),
    (re.compile(r"x509|certificate|HTTP response to HTTPS"), "the node does not trust the registry's certificate"),
)


def read_pull_failure(message: str) -> tuple[bool, str]:
    """Whether another try is of no use, and the rest of a sentence that begins with the image."""
    for pattern, words in _FINAL_PULLS:
        if pattern.search(message):
            return True, words
    why = next((words for pattern, words in _PULL_AGAIN if pattern.search(message)), "the node does not say why")
    return False, f"cannot be pulled yet: {why}"
