"""Why a pod that was a session is over, or will never be one; pure.

Promises: for what can only fail an end with a reason of the closed set, at once instead of at the time limit.
"""

import re
from collections.abc import Sequence

from af_hub.policy.units import describe_bytes
from af_hub.session.options import Reason
from af_hub.spawning.pod import AGENT, NOTEBOOK
from af_hub.spawning.podstate import Event, Pod, pull_failure, state_of, status_of, waiting_of
from af_hub.spawning.sentences import TAKEN, Chosen, Ended, last_line

AGENT_DEATHS = 3
"""So many times the session agent may end before the session is given up."""


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
    over = state_of(pod, NOTEBOOK).get("terminated")
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
    words = f" It said last: {last_line(said)}" if said else ""
    return Ended(Reason.DIED, f"Your session ended (exit status {over.get('exitCode', 'unknown')}).{words}")


def _cannot_run(chosen: Chosen, said: str) -> str:
    if "executable file not found" in said or "no such file" in said:
        return f"The image {chosen.image} has no jupyterhub-singleuser where programs are looked for; it needs one to be a session."
    return f"The image {chosen.image} cannot run here: {last_line(said)}"


def _not_taken(pod: Pod) -> Ended | None:
    """The kubelet does not take the pod at all, such as for a setting that its container runtime does not know."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    said = last_line(str(status.get("message") or status.get("reason") or ""))
    return Ended(
        Reason.FACILITY, f"The node does not take your session; tell the facility's administrators. It said: {said}"
    )


def _cannot_pull(pod: Pod, events: Sequence[Event], chosen: Chosen) -> Ended | None:
    final, words = pull_failure(pod, events, AGENT) or (False, "")
    if final:
        return Ended(Reason.FACILITY, f"The session agent's image {words}; tell the facility's administrators.")
    final, words = pull_failure(pod, events, NOTEBOOK) or (False, "")
    return Ended(Reason.PULL, f"The image {chosen.image} {words}.") if final else None


def _cannot_begin(pod: Pod, chosen: Chosen) -> Ended | None:
    """The kubelet or the runtime refuses a container."""
    for name in (AGENT, NOTEBOOK):
        waiting = waiting_of(pod, name)
        message = str(waiting.get("message") or "")
        if "runAsNonRoot" in message:
            return Ended(Reason.IMAGE, f"The image {chosen.image} wants to run as root, which no session may.")
        if waiting.get("reason") in ("CreateContainerError", "RunContainerError") and name == NOTEBOOK:
            return Ended(Reason.DIED, _cannot_run(chosen, message))
    return None


def _agent_dies(pod: Pod) -> Ended | None:
    agent = status_of(pod, AGENT)
    if agent.get("restartCount", 0) < AGENT_DEATHS or status_of(pod, NOTEBOOK).get("started"):
        return None
    said = str((agent.get("lastState", {}).get("terminated") or {}).get("message") or "")
    words = f" It said last: {last_line(said)}" if said.strip() else ""
    return Ended(Reason.FACILITY, f"The session agent does not start; tell the facility's administrators.{words}")
