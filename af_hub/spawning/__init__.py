"""Spawners: the hop from the spawn page to a session. :mod:`af_hub.spawner` is the name that configuration uses.

Read choosing, which checks a choice and says what a session gets, and waiting; then local (sessions as processes of this machine).
Sessions as pods: pod, progress, answers and quota (pure: what stands in a pod, what its state, the API's refusals and quotas mean), verbs (the hub's
Role), steady (KubeSpawner while the API is away), kube. What a session would get, for administrators: difference (pure), preview.
"""
