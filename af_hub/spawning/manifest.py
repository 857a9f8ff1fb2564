"""KubeSpawner's pod with our part laid over it.

Works on the classes of Kubernetes' client, since KubeSpawner's hooks expect them; what our part is stands in :mod:`af_hub.spawning.pod`.
"""

from typing import Any

from kubernetes_asyncio.client import V1Container, V1Pod, V1Toleration, V1Volume, V1VolumeMount
from kubespawner.utils import get_k8s_model

from af_hub.policy.sessions import Size
from af_hub.session.options import SessionOptions
from af_hub.spawning.pod import PodUser, SessionPod, with_resources


def lay_over(pod: V1Pod, session: SessionPod, options: SessionOptions, user: PodUser) -> V1Pod:
    """KubeSpawner's pod with our part; where both say something of the pod's security, the administrator's setting holds."""
    # The client's own classes say less than KubeSpawner puts into them.
    spec: Any = pod.spec
    server = spec.containers[0]
    spec.enable_service_links = False
    # What ended is over, and says why; the sidecars have a policy of their own.
    spec.restart_policy = "Never"
    spec.security_context = {**user.context, **(spec.security_context or {})}
    spec.volumes = [*(spec.volumes or []), *models(V1Volume, session.volumes)]
    spec.init_containers = [*models(V1Container, session.sidecars), *(spec.init_containers or [])]
    _place(pod, options.size)
    own = server.security_context or {}
    server.security_context = {key: value for key, value in own.items() if key not in ("runAsUser", "runAsGroup")}
    server.volume_mounts = [*(server.volume_mounts or []), *models(V1VolumeMount, session.mounts)]
    server.working_dir = server.working_dir or session.home
    server.termination_message_policy = "FallbackToLogsOnError"
    for kind in ("requests", "limits"):
        setattr(server.resources, kind, with_resources(getattr(server.resources, kind), options.size.resources))
    pod.metadata.annotations |= {"af-hub.org/image": options.image_name, "af-hub.org/size": options.size_name}
    return pod


def _place(pod: V1Pod, size: Size) -> None:
    """Put it on the nodes that are for this size: labels that they must have, and taints that it does not mind."""
    if size.node_selector:
        pod.spec.node_selector = {**(pod.spec.node_selector or {}), **size.node_selector}
    tolerations = [one.model_dump(exclude_none=True, exclude_defaults=False) for one in size.tolerations]
    if tolerations:
        pod.spec.tolerations = [*(pod.spec.tolerations or []), *models(V1Toleration, tolerations)]


def models(kind: type[Any], found: list[dict[str, Any]]) -> list[Any]:
    """Plain objects as the client's own, which KubeSpawner's hooks expect."""
    return [get_k8s_model(kind, one) for one in found]
