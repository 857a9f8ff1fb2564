"""A pod and its events as Kubernetes' API gives them, read; pure.

Source of names: Kubernetes' API (``PodStatus``, ``ContainerStatus``, ``Event``), the kubelet's reasons (``pkg/kubelet/events``,
``pkg/kubelet/images``), as Kubernetes 1.34 has them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from af_hub.spawning.pod import NOTEBOOK
from af_hub.spawning.told import read_pull_failure

Pod = Mapping[str, Any]
Event = Mapping[str, Any]

_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable", "ErrImageNeverPull")
_FINAL_REASONS = ("InvalidImageName", "ErrImageNeverPull")


def server_is_up(pod: Pod | None) -> bool:
    """Whether the user's server runs, at an address, with its agent beside it."""
    return (
        pod is not None
        and bool(pod.get("status", {}).get("podIP"))
        and "deletionTimestamp" not in pod.get("metadata", {})
        and "running" in state_of(pod, NOTEBOOK)
    )


def is_over(pod: Pod) -> bool:
    """Whether the pod has ended, or its server has, for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or "terminated" in state_of(pod, NOTEBOOK)


def exit_status(pod: Pod) -> int:
    """Of the server of a pod that is over; 1 when nobody knows."""
    over = state_of(pod, NOTEBOOK).get("terminated") or {}
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


def status_of(pod: Pod, container: str) -> Mapping[str, Any]:
    """What is said of this container; empty while nothing is."""
    return next((one for one in _statuses(pod) if one.get("name") == container), {})


def _statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def state_of(pod: Pod, container: str) -> Mapping[str, Any]:
    """What it does: one of ``waiting``, ``running``, ``terminated``, with what is said of that."""
    found: Mapping[str, Any] = status_of(pod, container).get("state") or {}
    return found


def waiting_of(pod: Pod, container: str) -> Mapping[str, Any]:
    """Why it waits; empty when it does not."""
    return state_of(pod, container).get("waiting") or {}


def is_about(event: Event, container: str) -> bool:
    """Whether this event is of this container."""
    return f"{{{container}}}" in str(event.get("involvedObject", {}).get("fieldPath") or "")


def pull_failure(pod: Pod, events: Sequence[Event], container: str) -> tuple[bool, str] | None:
    """Of an image that cannot be had: whether another try is of no use, and the rest of a sentence that begins with the image."""
    waiting = waiting_of(pod, container)
    if waiting.get("reason") not in _PULL_REASONS:
        return None
    final, words = read_pull_failure(_pull_message(waiting, events, container))
    return final or waiting["reason"] in _FINAL_REASONS, words


def _pull_message(waiting: Mapping[str, Any], events: Sequence[Event], container: str) -> str:
    """What the kubelet said of the pull; a back-off of older ones says nothing, the event before it does."""
    told = [str(one.get("message", "")) for one in events if one.get("reason") == "Failed" and is_about(one, container)]
    pulls = [message for message in told if "pull" in message]
    own = str(waiting.get("message") or "")
    return own if "rror" in own or "failed" in own or not pulls else pulls[-1]
