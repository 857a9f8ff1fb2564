"""The spawner of the hub's configuration: ``c.JupyterHub.spawner_class = "af_hub.spawner.LocalAFSpawner"``.

What it does stands in :mod:`af_hub.spawning`.
"""

from af_hub.spawning.local import LocalAFSpawner

__all__ = ["LocalAFSpawner"]
