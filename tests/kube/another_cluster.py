"""A Kubernetes with a pod, which says that it runs and goes on until somebody ends it: ``another_cluster.py LOGS READY_FD``."""

import json
import signal
import sys
from pathlib import Path

from ordinary_pods import pod

from af_hub.ready import say_ready
from af_hub.testing.kube_cluster import KubeCluster

with KubeCluster(Path(sys.argv[1])) as kube, kube.namespace("test") as namespace:
    kube.kubectl("create", "-n", namespace, "-f", "-", text=json.dumps(pod("one", kube.push("debian"), "sleep", "600")))
    kube.kubectl("wait", "-n", namespace, "pod/one", "--for=condition=Ready", "--timeout=60s")
    say_ready(int(sys.argv[2]), pods=len(kube.get("/api/v1/pods")["items"]))
    signal.pause()
