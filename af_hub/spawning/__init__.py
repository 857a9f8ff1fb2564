"""Spawners: the hop from the spawn page to a session. :mod:`af_hub.spawner` is the name that configuration uses.

Read agent (what a session's agent is told), choosing, which checks a choice and says what a session gets, and waiting; then local (sessions as processes of this machine).
Sessions as pods, the pure parts: names, pod (what stands in one), progress (what its state means), answers and quota (what the API's refusals and
the namespace's quotas mean). Then KubeSpawner, step by step, each module a class on top of the one before: steady (while the API is away),
settings (what administrators say), prepared (from a choice to a pod; manifest lays it over KubeSpawner's), watched (until it answers), role
(the hub's own, of which verbs says what it needs; at the hub's start, with garbage, which keeps its loop quick), and kube, which starts and ends it with the help of secret.
What a session would get, for administrators: difference (pure), preview.
"""
