"""Pods for tests."""

from typing import Any

ORDINARY = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
NOTHING_MORE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod(name: str, image: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod that may run in a restricted namespace."""
    container = {"name": "main", "image": image, "command": list(command), "securityContext": NOTHING_MORE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "securityContext": ORDINARY,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }
