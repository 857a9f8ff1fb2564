"""The spawners of the hub's configuration: ``c.JupyterHub.spawner_class = "af_hub.spawner.AFSpawner"``.

:class:`AFSpawner` makes sessions as pods of Kubernetes, :class:`LocalAFSpawner` as processes of the hub's own machine. What they do stands
in :mod:`af_hub.spawning`.
"""

from typing import TYPE_CHECKING, Any

from af_hub.spawning.local import LocalAFSpawner

if TYPE_CHECKING:
    from af_hub.spawning.kube import AFSpawner

__all__ = ["AFSpawner", "LocalAFSpawner"]


def __getattr__(name: str) -> Any:
    # KubeSpawner brings Kubernetes' client, which is large; where sessions are processes nobody waits for it.
    if name == "AFSpawner":
        from af_hub.spawning.kube import AFSpawner

        return AFSpawner
    raise AttributeError(name)
