from tests.bench.pod_watch import logged, milestones


def pod(*conditions, agent=None, server=None):
    agents = [{"name": "agent", **agent}] if agent else []
    servers = [{"name": "notebook", "state": server}] if server else []
    said = [{"type": one, "status": "True"} for one in conditions]
    return {"status": {"conditions": said, "initContainerStatuses": agents, "containerStatuses": servers}}


def test_milestones_of_a_session_are_the_first_time_that_the_api_said_so():
    runs = {"running": {}}
    found = [
        (1.0, {"status": {"phase": "Pending"}}),
        (2.0, pod("PodScheduled", agent={"state": {"waiting": {}}})),
        (3.0, pod("PodScheduled", agent={"state": runs, "started": False}, server={"waiting": {}})),
        (4.0, pod("PodScheduled", agent={"state": runs, "started": True}, server={"waiting": {}})),
        (5.0, pod("PodScheduled", "Ready", agent={"state": runs, "started": True}, server=runs)),
        (6.0, pod("PodScheduled", "Ready", agent={"state": runs, "started": True}, server=runs)),
    ]
    assert milestones(found) == {
        "the pod is made": 1.0,
        "the pod has a node": 2.0,
        "the agent's container runs": 3.0,
        "the agent is ready": 4.0,
        "the server's container runs": 5.0,
    }


def test_a_pod_without_an_agent_has_none_of_its_milestones():
    found = [(1.0, pod("PodScheduled", server={"running": {}}))]
    assert list(milestones(found)) == ["the pod is made", "the pod has a node", "the server's container runs"]


def test_a_line_of_a_log_has_the_time_at_which_it_was_written():
    ((at, text),) = logged("2026-01-01T00:00:01.123456789Z [I 2026-01-01 01:00:01.123 ServerApp] is running at:\n")
    assert (at, text) == (1767225601.123456, "[I 2026-01-01 01:00:01.123 ServerApp] is running at:")
