"""What a pod's state and events mean, as tables; texts as Kubernetes 1.34 and containerd wrote them."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_hub.session.options import Reason
from af_hub.spawning.failures import why_not
from af_hub.spawning.podstate import event_time, exit_status, is_over, of_pod, server_is_up
from af_hub.spawning.progress import where_it_is
from af_hub.spawning.sentences import Chosen
from af_hub.spawning.told import why_no_node

CHOSEN = Chosen("Python analysis", image_bytes=1288490188, memory=2 * 2**30)
NOW = event_time({"lastTimestamp": "2026-11-21T12:00:47Z"})

Json = dict[str, Any]


def container(name: str, ready: bool = False, started: bool = False, restarts: int = 0, **state: Any) -> Json:
    last = state.pop("last", {})
    return {
        "name": name,
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "state": state,
        "lastState": last,
    }


def pod(
    *statuses: Json, agent: Json | None = None, node: str = "node1", phase: str = "Pending", **more: Any
) -> dict[str, Any]:
    metadata = more.pop("metadata", {})
    return {
        "metadata": {"name": "jupyter-ada", "uid": "u", **metadata},
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "initContainerStatuses": [agent] if agent else [],
            "containerStatuses": list(statuses),
            **more,
        },
    }


def event(reason: str, message: str = "", place: str = "", at: str = "2026-11-21T12:00:00Z", uid: str = "u") -> Json:
    about = {"uid": uid, "fieldPath": place, "name": "jupyter-ada"}
    return {"reason": reason, "message": message, "involvedObject": about, "lastTimestamp": at}


SERVER, AGENT = "spec.containers{notebook}", "spec.initContainers{agent}"
UP = container("agent", started=True, ready=True, running={"startedAt": "2026-11-21T12:00:00Z"})
PREPARING = container("agent", waiting={"reason": "PodInitializing"})
WAITS = container("notebook", waiting={"reason": "PodInitializing"})


def unscheduled(message: str) -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(node="", conditions=[condition])


@pytest.mark.parametrize(
    "message, words",
    [
        pytest.param(
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims "
            "found for incoming pod.",
            "of the nodes 2 with too few free cores",
            id="cores",
        ),
        pytest.param(
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint "
            "{virtual-node.interlink/no-schedule: true}, 1 node(s) were unschedulable. no new claims to deallocate, preemption: "
            "0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
            "of the nodes 1 with too little free memory, 1 kept for other work, or not ready, 1 being emptied for maintenance",
            id="one of each",
        ),
        pytest.param(
            "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: none",
            "of the nodes 2 with no free nvidia.com/gpu",
            id="GPU",
        ),
        pytest.param(
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2",
            "of the nodes 2 of another kind than this size wants",
            id="node selector",
        ),
        pytest.param(
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available",
            "its storage is not there yet",
            id="claim not bound",
        ),
        pytest.param(
            '0/2 nodes are available: persistentvolumeclaim "cvmfs" not found. preemption: 0/2',
            "the claim cvmfs for its storage is not there",
            id="no claim",
        ),
        pytest.param("0/1 nodes are available: 1 node(s) had frobs.", 'of the nodes 1 "node(s) had frobs"', id="new"),
        pytest.param("", "no node takes it", id="nothing"),
    ],
)
def test_the_scheduler_in_words(message: str, words: str) -> None:
    assert why_no_node(message) == words
    if message:
        assert where_it_is(unscheduled(message), (), NOW, CHOSEN).sentence == f"Your session waits for a node: {words}."


@pytest.mark.parametrize(
    "found, events, percent, words",
    [
        pytest.param(None, [], 5, "being made", id="no pod yet"),
        pytest.param(pod(node=""), [], 10, "waits for a node", id="not looked at"),
        pytest.param(pod(WAITS, agent=PREPARING), [], 25, "gets your session ready", id="on its node"),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) x')],
            25,
            "storage, which another node still has",
            id="home on another node",
        ),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [event("FailedMount", 'MountVolume.SetUp failed for volume "cvmfs" : rpc error: code = Internal')],
            25,
            "cvmfs cannot be mounted yet",
            id="volume",
        ),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [event("FailedMount", 'MountVolume.SetUp failed for volume "af-agent" : secret "jupyter-ada-1" not found')],
            25,
            "gets your session ready",
            id="our Secret, which comes",
        ),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [event("FailedMount", 'MountVolume.SetUp failed for volume "af-agent" : failed to sync secret cache')],
            25,
            "gets your session ready",
            id="our Secret, not seen yet",
        ),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [event("Pulling", place=AGENT)],
            40,
            "pulls the session agent's image, for 40 seconds now",
            id="agent's image",
        ),
        pytest.param(
            pod(container("notebook", waiting={"reason": "ContainerCreating"}), agent=UP),
            [event("Pulling", place=AGENT), event("Pulled", place=AGENT), event("Pulling", place=SERVER)],
            40,
            "pulls the image Python analysis (1.2 GiB), for 40 seconds now",
            id="user's image, with its size",
        ),
        pytest.param(
            pod(
                container("notebook", waiting={"reason": "ErrImagePull", "message": "dial tcp: connection refused"}),
                agent=UP,
            ),
            [],
            30,
            "cannot be pulled yet: the registry does not answer. The node tries again",
            id="registry away",
        ),
        pytest.param(
            pod(WAITS, agent=container("agent", running={})), [], 60, "session agent starts", id="agent starts"
        ),
        pytest.param(
            pod(WAITS, agent=PREPARING),
            [
                event("FailedMount", 'secret "x" not found'),
                event("Created", place=AGENT),
                event("Started", place=AGENT),
            ],
            60,
            "gets your token",
            id="agent starts, while the kubelet waits for it",
        ),
        pytest.param(
            pod(WAITS, agent=UP), [event("Started", place=AGENT)], 75, "container is being made", id="agent serves"
        ),
        pytest.param(pod(WAITS, agent=UP), [], 75, "container is being made", id="container"),
        pytest.param(pod(container("notebook", running={}), agent=UP), [], 85, "server starts", id="server"),
    ],
)
def test_where_a_session_is(found: Json | None, events: list[Json], percent: int, words: str) -> None:
    step = where_it_is(found, events, NOW, CHOSEN)
    assert step.percent == percent and words in step.sentence and step.sentence.endswith(".")
    assert why_not(found, events, CHOSEN) is None


def pulling(reason: str, message: str, name: str = "notebook") -> Json:
    waiting = container(name, waiting={"reason": reason, "message": message})
    return pod(waiting, agent=UP) if name == "notebook" else pod(WAITS, agent=waiting)


def server_over(**over: Any) -> Json:
    return pod(container("notebook", terminated=over), agent=UP, phase="Failed")


NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "af-hub.test/nope:1": failed to resolve reference '
    '"af-hub.test/nope:1": af-hub.test/nope:1: not found'
)
DENIED = (
    'failed to pull and unpack image "docker.io/x/y:1": failed to resolve reference "docker.io/x/y:1": pull access denied, repository '
    "does not exist or may require authorization: server message: insufficient_scope: authorization failed"
)


@pytest.mark.parametrize(
    "found, reason, words",
    [
        pytest.param(pulling("ErrImagePull", NOT_FOUND), Reason.PULL, "is not in its registry", id="no such image"),
        pytest.param(pulling("ErrImagePull", DENIED), Reason.PULL, "to others only", id="not allowed"),
        pytest.param(
            pulling("InvalidImageName", "couldn't parse image"), Reason.PULL, "a name that is none", id="name"
        ),
        pytest.param(
            pulling("ErrImagePull", "no match for platform in manifest"), Reason.PULL, "processors", id="platform"
        ),
        pytest.param(
            pulling("ErrImagePull", NOT_FOUND, "agent"), Reason.FACILITY, "session agent's image", id="agent's image"
        ),
        pytest.param(
            pod(
                container(
                    "notebook",
                    waiting={
                        "reason": "CreateContainerConfigError",
                        "message": "container has runAsNonRoot and image will run as root",
                    },
                ),
                agent=UP,
            ),
            Reason.IMAGE,
            "as root",
            id="root",
        ),
        pytest.param(
            pod(WAITS, agent=container("agent", restarts=3, waiting={"reason": "CrashLoopBackOff"})),
            Reason.FACILITY,
            "agent does not start",
            id="agent dies again and again",
        ),
        pytest.param(
            server_over(reason="OOMKilled", exitCode=137),
            Reason.DIED,
            "more memory than its size has (2 GiB)",
            id="memory",
        ),
        pytest.param(
            server_over(reason="Error", exitCode=3, message="trace\nModuleNotFoundError: No module named 'x'\n"),
            Reason.DIED,
            "(exit status 3). It said last: ModuleNotFoundError",
            id="server ends",
        ),
        pytest.param(
            server_over(
                reason="StartError",
                exitCode=128,
                message='exec: "jupyterhub-singleuser": executable file not found in $PATH: unknown',
            ),
            Reason.DIED,
            "has no jupyterhub-singleuser",
            id="no single-user server",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            Reason.DIED,
            "ran out of memory",
            id="evicted",
        ),
        pytest.param(
            pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
            Reason.NO_ROOM,
            "no room left",
            id="lost the race for a node",
        ),
        pytest.param(
            pod(
                phase="Failed",
                reason="SupplementalGroupsPolicyNotSupported",
                message="Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node",
            ),
            Reason.FACILITY,
            "It said: Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node",
            id="a setting that the node does not know",
        ),
        pytest.param(
            pod(container("notebook", running={}), agent=UP, metadata={"deletionTimestamp": "2026-11-21T12:00:00Z"}),
            Reason.DIED,
            "taken from its node",
            id="drained",
        ),
    ],
)
def test_what_can_only_fail_ends(found: Json, reason: Reason, words: str) -> None:
    ended = why_not(found, (), CHOSEN)
    assert ended is not None and ended.reason == reason
    assert words in ended.sentence


def test_last_words_bring_nothing_that_a_terminal_obeys() -> None:
    ended = why_not(server_over(exitCode=1, message="first\n\x1b[2Jlast\u202e"), [], CHOSEN)
    assert ended is not None and ended.sentence.isprintable() and "[2Jlast" in ended.sentence


def test_a_back_off_is_read_in_the_event_before_it() -> None:
    found = pulling("ImagePullBackOff", 'Back-off pulling image "af-hub.test/nope:1"')
    events = [
        event("Failed", f'Failed to pull image "x": {NOT_FOUND}', SERVER),
        event("Failed", "Error: ErrImagePull", SERVER),
    ]
    ended = why_not(found, events, CHOSEN)
    assert ended is not None and ended.reason == Reason.PULL


def test_an_agent_that_is_restarted_alone_ends_nothing() -> None:
    agent = container("agent", restarts=5, started=True, running={})
    assert (
        why_not(pod(container("notebook", started=True, running={}), agent=agent, phase="Running"), (), CHOSEN) is None
    )


def test_when_a_server_is_up_and_when_over() -> None:
    up = pod(container("notebook", running={}), agent=UP, phase="Running", podIP="10.88.0.9")
    assert server_is_up(up) and not is_over(up)
    over = server_over(reason="Error", exitCode=3)
    assert is_over(over) and not server_is_up(over) and exit_status(over) == 3
    assert is_over(pod(phase="Failed", reason="Evicted")) and exit_status(pod(phase="Failed")) == 1
    assert not server_is_up(None) and not server_is_up(pod(WAITS, agent=UP))


def test_events_of_an_earlier_pod_do_not_count() -> None:
    old = event("Pulling", place=SERVER, uid="before")
    late, early = event("Pulled", at="2026-11-21T12:00:09.5Z"), event("Pulling")
    assert of_pod([old, late, early], "u") == [early, late]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
STATES = st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.fixed_dictionaries(
            {}, optional={"reason": st.text(max_size=20), "message": st.text(max_size=60)}
        ),
        "running": st.just({}),
        "terminated": st.fixed_dictionaries(
            {}, optional={"reason": st.text(), "message": st.text(), "exitCode": st.integers()}
        ),
    },
)


@given(st.lists(STATES, max_size=2), st.lists(STATES, max_size=1), st.text(max_size=80))
def test_any_state_has_a_sentence(servers: list[Json], agents: list[Json], message: str) -> None:
    found = pod(
        *({"name": "notebook", "state": state} for state in servers),
        agent={"name": "agent", "state": agents[0]} if agents else None,
        conditions=[{"type": "PodScheduled", "status": "False", "message": message}] if message else [],
    )
    events = [event("Failed", message, SERVER), event("Pulling", message, AGENT)]
    assert re.fullmatch(r".+\.", where_it_is(found, events, NOW, CHOSEN).sentence, re.DOTALL)
    ended = why_not(found, events, CHOSEN)
    assert ended is None or ended.sentence
