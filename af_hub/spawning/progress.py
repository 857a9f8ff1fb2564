"""A starting pod in words: what it does, or waits for; pure.

Serves the hop from the spawn page to the session. Promises: of any pod and any events a sentence for the analyst. Leaves to the spawner how long
anybody waits, and to :mod:`af_hub.spawning.failures` what can only fail.
"""

import re
from collections.abc import Sequence

from af_hub.policy.units import describe_bytes
from af_hub.spawning.pod import AGENT, CONFIG_VOLUME, NOTEBOOK
from af_hub.spawning.podstate import Event, Pod, event_time, is_about, pull_failure, state_of, status_of
from af_hub.spawning.sentences import Chosen, Step
from af_hub.spawning.told import why_no_node


def where_it_is(pod: Pod | None, events: Sequence[Event], now: float, chosen: Chosen) -> Step:
    """What the pod does or waits for at this moment (Unix seconds)."""
    if pod is None:
        return Step(5, "Your session is being made.")
    if message := _unscheduled(pod):
        return Step(10, f"Your session waits for a node: {why_no_node(message)}.")
    if not pod.get("spec", {}).get("nodeName"):
        return Step(10, "Your session waits for a node.")
    if pulled := _pulling(pod, events, now, chosen):
        return pulled
    if not _agent_runs(pod, events):
        return Step(25, _storage(events) or "The node gets your session ready.")
    if not status_of(pod, AGENT).get("started"):
        return Step(60, "The session agent starts, and gets your token.")
    if "running" not in state_of(pod, NOTEBOOK):
        return Step(75, "Your server's container is being made.")
    return Step(85, "Your server starts.")


def _agent_runs(pod: Pod, events: Sequence[Event]) -> bool:
    """Whether the agent's container runs.

    Kubernetes 1.34: while its ``postStart`` runs, which waits for the agent, the kubelet says nothing new of the pod; only an event tells.
    """
    return "running" in state_of(pod, AGENT) or any(
        one.get("reason") == "Started" and is_about(one, AGENT) for one in events
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
        if failure := pull_failure(pod, events, name):
            final, words = failure
            return Step(30, f"{_big(what)} {words}." + ("" if final else " The node tries again."))
        mine = [one for one in events if is_about(one, name) and one.get("reason") in ("Pulling", "Pulled")]
        if "waiting" in state_of(pod, name) and mine and mine[-1]["reason"] == "Pulling":
            amount = f" ({describe_bytes(size)})" if size else ""
            return Step(40, f"The node pulls {what}{amount}{_since(mine[-1], now)}.")
    return None


def _since(event: Event, now: float) -> str:
    """``, for 40 seconds now``, to ten seconds, where the event says when it was."""
    begun = event_time(event)
    seconds = int(now - begun) // 10 * 10 if begun else 0
    return f", for {seconds} seconds now" if seconds > 0 else ""


def _storage(events: Sequence[Event]) -> str:
    """What keeps a volume from being mounted; the Secret with the agent's configuration is ours, and comes right after the pod."""
    for event in reversed(events):
        message = str(event.get("message", ""))
        if event.get("reason") == "FailedAttachVolume":
            busy = "Multi-Attach" in message
            return "Your session waits for its storage, which " + (
                "another node still has." if busy else "the node cannot get yet."
            )
        if event.get("reason") == "FailedMount" and f'volume "{CONFIG_VOLUME}"' not in message:
            volume = re.search(r'volume "([^"]+)"', message)
            return f"Your session waits for its storage: {volume[1] if volume else 'a volume'} cannot be mounted yet."
    return ""


def _big(text: str) -> str:
    return text[:1].upper() + text[1:]
