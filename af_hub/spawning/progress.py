"""A starting pod in words: what it waits for, and why it will not come up; pure.

Serves the hop from the spawn page to the session. Promises: of any pod and any events a sentence for the analyst, and for what can only fail
an end with a reason of the closed set, at once instead of at the time limit. Leaves to the spawner how long anybody waits.

Source of names: Kubernetes' API (``PodStatus``, ``ContainerStatus``), the scheduler's ``FailedScheduling``, the kubelet's reasons
(``pkg/kubelet/events``, ``pkg/kubelet/images``), containerd's sentences about pulls; as Kubernetes 1.34 and containerd 1.6 and 2.0 have them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from af_hub.policy.units import describe_bytes
from af_hub.session.options import Reason
from af_hub.spawning.pod import AGENT, NOTEBOOK

Pod = Mapping[str, Any]
"""A pod as the API gives it."""
Event = Mapping[str, Any]

AGENT_DEATHS = 3
"""So many times the session agent may end before the session is given up."""


@dataclass(frozen=True)
class Step:
    """How far a session is, of 100, and what it does now."""

    percent: int
    sentence: str


@dataclass(frozen=True)
class Ended:
    """Why a session is over, or cannot come up."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class Chosen:
    """What people know of the pod's image and size: names, and bytes to pull (0 when not known)."""

    image: str
    image_bytes: int = 0
    memory: int = 0


TAKEN = Ended(
    Reason.DIED,
    "Your session was taken from its node, as happens when a node is emptied for maintenance. Start it again; it finds another node.",
)
"""Of a pod that somebody else removes, or has removed."""

# --- what the scheduler says ----------------------------------------------------------------------------------------------

_NODES = re.compile(r"(\d+) ([^,]+?)(?=, \d+ |$)")
_MISSING = (
    (re.compile(r"Insufficient cpu"), "too few free cores"),
    (re.compile(r"Insufficient memory"), "too little free memory"),
    (re.compile(r"Insufficient (ephemeral-storage)"), "too little free disk"),
    (re.compile(r"Insufficient (\S+)"), "no free {0}"),
    (re.compile(r"Too many pods"), "as many pods as they take"),
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
    for pattern, words in _MISSING:
        if found := pattern.search(reason):
            verb = "" if words.startswith(("kept", "being", "of another", "away", "without")) else "with "
            return verb + words.format(*found.groups())
    return f'"{reason.strip()}"'


# --- pulls ----------------------------------------------------------------------------------------------------------------

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
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable", "ErrImageNeverPull")


def read_pull_failure(message: str) -> tuple[bool, str]:
    """Whether another try is of no use, and the rest of a sentence that begins with the image."""
    for pattern, words in _FINAL_PULLS:
        if pattern.search(message):
            return True, words
    why = next((words for pattern, words in _PULL_AGAIN if pattern.search(message)), "the node does not say why")
    return False, f"cannot be pulled yet: {why}"


# --- the pod --------------------------------------------------------------------------------------------------------------


def why_not(pod: Pod | None, events: Sequence[Event], chosen: Chosen) -> Ended | None:
    """Why this pod is over or will never be ready; None while it may."""
    if pod is None:
        return None
    return (
        _gone(pod)
        or _server_over(pod, chosen)
        or _cannot_pull(pod, events, chosen)
        or _cannot_begin(pod, chosen)
        or _agent_dies(pod)
        or _not_taken(pod)
    )


def _gone(pod: Pod) -> Ended | None:
    status = pod.get("status", {})
    reason, message = status.get("reason", ""), str(status.get("message", ""))
    if reason == "Evicted":
        disk = "disk" if re.search(r"ephemeral|disk|emptyDir|usage of", message, re.IGNORECASE) else "memory"
        return Ended(
            Reason.DIED,
            f"Your session was ended by its node, which ran out of {disk}. Start it again; choose a larger size if it needs much.",
        )
    if status.get("phase") == "Failed" and reason.startswith(("OutOf", "NodeAffinity", "UnexpectedAdmissionError")):
        return Ended(
            Reason.NO_ROOM, "The node that was to take your session had no room left in that moment. Start it again."
        )
    if reason in ("NodeLost", "NodeShutdown", "Terminated", "Shutdown"):
        return Ended(Reason.DIED, "The node of your session went away, and your session with it. Start it again.")
    return TAKEN if "deletionTimestamp" in pod.get("metadata", {}) else None


def _server_over(pod: Pod, chosen: Chosen) -> Ended | None:
    """The user's server has ended."""
    over = _state(_container(pod, NOTEBOOK)).get("terminated")
    if over is None:
        return None
    if over.get("reason") == "OOMKilled":
        given = f" ({describe_bytes(chosen.memory)})" if chosen.memory else ""
        return Ended(
            Reason.DIED,
            f"Your session was ended since it wanted more memory than its size has{given}. Choose a larger size.",
        )
    said = str(over.get("message") or "").strip()
    if over.get("reason") in ("StartError", "ContainerCannotRun") or "executable file not found" in said:
        return Ended(Reason.DIED, _cannot_run(chosen, said))
    words = f" It said last: {_last_line(said)}" if said else ""
    return Ended(Reason.DIED, f"Your session ended (exit status {over.get('exitCode', 'unknown')}).{words}")


def _cannot_run(chosen: Chosen, said: str) -> str:
    if "executable file not found" in said or "no such file" in said:
        return f"The image {chosen.image} has no jupyterhub-singleuser where programs are looked for; it needs one to be a session."
    return f"The image {chosen.image} cannot run here: {_last_line(said)}"


def _not_taken(pod: Pod) -> Ended | None:
    """The kubelet does not take the pod at all, such as for a setting that its container runtime does not know."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    said = _last_line(str(status.get("message") or status.get("reason") or ""))
    return Ended(
        Reason.FACILITY, f"The node does not take your session; tell the facility's administrators. It said: {said}"
    )


def _cannot_pull(pod: Pod, events: Sequence[Event], chosen: Chosen) -> Ended | None:
    for name in (AGENT, NOTEBOOK):
        waiting = _state(_container(pod, name)).get("waiting") or {}
        if waiting.get("reason") not in _PULL_REASONS:
            continue
        final, words = read_pull_failure(_pull_message(waiting, events, name))
        if waiting["reason"] in ("InvalidImageName", "ErrImageNeverPull") or final:
            if name == AGENT:
                return Ended(Reason.FACILITY, f"The session agent's image {words}; tell the facility's administrators.")
            return Ended(Reason.PULL, f"The image {chosen.image} {words}.")
    return None


def _pull_message(waiting: Mapping[str, Any], events: Sequence[Event], name: str) -> str:
    """What the kubelet said of the pull; a back-off of older ones says nothing, the event before it does."""
    told = [
        str(one.get("message", "")) for one in events if one.get("reason") == "Failed" and f"{{{name}}}" in _place(one)
    ]
    pulls = [message for message in told if "pull" in message]
    own = str(waiting.get("message") or "")
    return own if "rror" in own or "failed" in own or not pulls else pulls[-1]


def _cannot_begin(pod: Pod, chosen: Chosen) -> Ended | None:
    """The kubelet or the runtime refuses a container."""
    for name in (AGENT, NOTEBOOK):
        waiting = _state(_container(pod, name)).get("waiting") or {}
        message = str(waiting.get("message") or "")
        if "runAsNonRoot" in message:
            return Ended(Reason.IMAGE, f"The image {chosen.image} wants to run as root, which no session may.")
        if waiting.get("reason") in ("CreateContainerError", "RunContainerError") and name == NOTEBOOK:
            return Ended(Reason.DIED, _cannot_run(chosen, message))
    return None


def _agent_dies(pod: Pod) -> Ended | None:
    agent = _container(pod, AGENT)
    if agent.get("restartCount", 0) < AGENT_DEATHS or _container(pod, NOTEBOOK).get("started"):
        return None
    said = str((agent.get("lastState", {}).get("terminated") or {}).get("message") or "")
    words = f" It said last: {_last_line(said)}" if said.strip() else ""
    return Ended(Reason.FACILITY, f"The session agent does not start; tell the facility's administrators.{words}")


def where_it_is(pod: Pod | None, events: Sequence[Event], now: float, chosen: Chosen) -> Step:
    """What the pod does or waits for at this moment (Unix seconds)."""
    if pod is None:
        return Step(5, "Your session is being made.")
    if message := _unscheduled(pod):
        return Step(10, f"Your session waits for a node: {why_no_node(message)}.")
    if not pod.get("spec", {}).get("nodeName"):
        return Step(10, "Your session waits for a node.")
    agent, server = _container(pod, AGENT), _container(pod, NOTEBOOK)
    if pulled := _pulling(pod, events, now, chosen):
        return pulled
    if not _agent_runs(agent, events):
        return Step(25, _storage(events) or "The node gets your session ready.")
    if not agent.get("started"):
        return Step(60, "The session agent starts, and gets your token.")
    if "running" not in _state(server):
        return Step(75, "Your server's container is being made.")
    return Step(85, "Your server starts.")


def _agent_runs(agent: Mapping[str, Any], events: Sequence[Event]) -> bool:
    """Whether the agent's container runs.

    Kubernetes 1.34: while its ``postStart`` runs, which waits for the agent, the kubelet says nothing new of the pod; only an event tells.
    """
    return "running" in _state(agent) or any(
        one.get("reason") == "Started" and f"{{{AGENT}}}" in _place(one) for one in events
    )


def _unscheduled(pod: Pod) -> str:
    """What the scheduler says, while it finds no node."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or "no node takes it")
    return ""


def _pulling(pod: Pod, events: Sequence[Event], now: float, chosen: Chosen) -> Step | None:
    for name, what, size in (
        (AGENT, "the session agent's image", 0),
        (NOTEBOOK, f"the image {chosen.image}", chosen.image_bytes),
    ):
        waiting = _state(_container(pod, name)).get("waiting")
        if waiting is None:
            continue
        if waiting.get("reason") in _PULL_REASONS:
            final, words = read_pull_failure(_pull_message(waiting, events, name))
            return Step(30, f"{_big(what)} {words}." + ("" if final else " The node tries again."))
        mine = [one for one in events if f"{{{name}}}" in _place(one) and one.get("reason") in ("Pulling", "Pulled")]
        if mine and mine[-1]["reason"] == "Pulling":
            amount = f" ({describe_bytes(size)})" if size else ""
            return Step(40, f"The node pulls {what}{amount}{_since(mine[-1], now)}.")
    return None


def _since(event: Event, now: float) -> str:
    """``, for 40 seconds now``, to ten seconds, where the event says when it was."""
    begun = event_time(event)
    seconds = int(now - begun) // 10 * 10 if begun else 0
    return f", for {seconds} seconds now" if seconds > 0 else ""


def _storage(events: Sequence[Event]) -> str:
    """What keeps a volume from being mounted; the Secret is ours, and comes right after the pod."""
    for event in reversed(events):
        message = str(event.get("message", ""))
        if event.get("reason") == "FailedAttachVolume":
            busy = "Multi-Attach" in message
            return "Your session waits for its storage, which " + (
                "another node still has." if busy else "the node cannot get yet."
            )
        if event.get("reason") == "FailedMount" and 'secret "' not in message:
            volume = re.search(r'volume "([^"]+)"', message)
            return f"Your session waits for its storage: {volume[1] if volume else 'a volume'} cannot be mounted yet."
    return ""


def server_is_up(pod: Pod | None) -> bool:
    """Whether the user's server runs, at an address, with its agent beside it."""
    return (
        pod is not None
        and bool(pod.get("status", {}).get("podIP"))
        and "deletionTimestamp" not in pod.get("metadata", {})
        and "running" in _state(_container(pod, NOTEBOOK))
    )


def is_over(pod: Pod) -> bool:
    """Whether the pod has ended, or its server has, for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or "terminated" in _state(
        _container(pod, NOTEBOOK)
    )


def exit_status(pod: Pod) -> int:
    """Of the server of a pod that is over; 1 when nobody knows."""
    over = _state(_container(pod, NOTEBOOK)).get("terminated") or {}
    return int(over.get("exitCode", 1))


def of_pod(events: Sequence[Event], uid: str) -> list[Event]:
    """Those about the pod with this uid, in order of time."""
    mine = [event for event in events if event.get("involvedObject", {}).get("uid") == uid]
    return sorted(mine, key=event_time)


def event_time(event: Event) -> float:
    """When it happened last (Unix seconds); 0 when it does not say."""
    said = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
    try:
        return datetime.fromisoformat(str(said)).timestamp()
    except ValueError:
        return 0.0


def _containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _container(pod: Pod, name: str) -> Mapping[str, Any]:
    return next((one for one in _containers(pod) if one.get("name") == name), {})


def _state(container: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = container.get("state") or {}
    return found


def _place(event: Event) -> str:
    return str(event.get("involvedObject", {}).get("fieldPath") or "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return plain(lines[-1]) if lines else "nothing"


def plain(text: str) -> str:
    """What others said, at most 300 characters of it, without those that a terminal or a page would obey."""
    return "".join(one if one.isprintable() else " " for one in text[:300])


def _big(text: str) -> str:
    return text[:1].upper() + text[1:]
