"""Spawners: the hop from the spawn page to a session. :mod:`af_hub.spawner` is the name that configuration uses.

Read agent (what a session's agent is told), choosing (checks a choice, and says what a session gets) and waiting; then local, whose sessions
are processes of this machine.

Sessions as pods, the pure parts: names, pod (what stands in one); sentences (the shapes of what people are told), told (others' words in ours),
podstate (reads a pod), progress (what one that starts does), failures (why one never will), answers and quota (what the API's refusals and the
namespace's quotas mean). Then KubeSpawner, step by step, each module a spawner on top of the one before: steady (while the API is away),
settings (what administrators say), preparing (from a choice to a pod; manifest lays it over KubeSpawner's), watching (until it answers), and
kube, which starts and ends sessions, with the help of verbs (what the hub may do), garbage (its loop stays quick) and secret.

What a session would get, for administrators: difference (pure), preview.
"""
