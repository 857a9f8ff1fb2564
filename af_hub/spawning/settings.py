"""What administrators set of sessions that are pods, and where our defaults are others than KubeSpawner's.

All that KubeSpawner can be told still holds, but for what policy and image decide; profiles are refused.
"""

import os
from typing import Any

from traitlets import Dict, Float, TraitError, Unicode, default, validate

from af_hub.spawning.agent import SERVER_SCOPES
from af_hub.spawning.choosing import ChoosingSpawner
from af_hub.spawning.names import claim_name, pod_name
from af_hub.spawning.pod import RESTRICTED, RESTRICTED_POD
from af_hub.spawning.steady import SteadyKubeSpawner


class PodSpawner(ChoosingSpawner, SteadyKubeSpawner):
    """The settings of :class:`~af_hub.spawner.AFSpawner`."""

    agent_image = Unicode(
        help="""
        The image of the session agent, which runs beside the user's server in each pod; of the same version as the hub.

        When unset, the environment variable ``AF_AGENT_IMAGE``; without either no session starts.

        Example::

            c.AFSpawner.agent_image = "registry.example.org/af-hub/agent:1"
        """
    ).tag(config=True)

    @default("agent_image")
    def _agent_image(self) -> str:
        return os.environ.get("AF_AGENT_IMAGE", "")

    agent_resources = Dict(
        {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        help="""
        What the session agent of each pod asks for and may take, as Kubernetes writes it. It comes on top of the size that people choose.

        Example::

            c.AFSpawner.agent_resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
        """,
    ).tag(config=True)

    guaranteed_share = Float(
        1.0,
        help="""
        The part of a size's cores that is kept for its session. With 1 nobody waits for somebody else's computation; with less, more sessions
        fit on a node, and share the cores that others do not use. Memory is always kept whole, as a session cannot give it back.

        Example::

            c.AFSpawner.guaranteed_share = 0.25
        """,
    ).tag(config=True)

    home_volume = Dict(
        help="""
        The volume that holds homes, as a pod's ``volumes`` has it, without a name; KubeSpawner's templates (``{username}``) are filled in.

        When unset, each person has a claim of their own (``pvc_name_template``), which the hub makes at the first start
        (``storage_pvc_ensure``, ``storage_capacity``, ``storage_class``, ``storage_access_modes``) and never removes.

        Example::

            c.AFSpawner.home_volume = {"nfs": {"server": "nfs.example.org", "path": "/homes"}}
            c.AFSpawner.home_sub_path = "{username}"
        """
    ).tag(config=True)

    home_sub_path = Unicode(
        help="""
        The folder of the home volume that is a person's home; KubeSpawner's templates (``{username}``) are filled in.

        When unset, the whole volume.

        Example::

            c.AFSpawner.home_sub_path = "{username}"
        """
    ).tag(config=True)

    takes_own_images = has_volumes = True

    @default("cmd")
    def _cmd(self) -> list[str]:
        # The image's own command may be anything.
        return ["jupyterhub-singleuser"]

    @default("start_timeout")
    def _start_timeout(self) -> int:
        return 300

    @default("delete_grace_period")
    def _delete_grace_period(self) -> int:
        return 10

    @default("automount_service_account_token")
    def _automount_service_account_token(self) -> bool:
        return False

    @default("container_security_context")
    def _container_security_context(self) -> dict[str, Any]:
        return {"capabilities": RESTRICTED["capabilities"]}

    @default("pod_security_context")
    def _pod_security_context(self) -> dict[str, Any]:
        return dict(RESTRICTED_POD)

    @default("storage_pvc_ensure")
    def _storage_pvc_ensure(self) -> bool:
        return not self.home_volume

    @default("storage_capacity")
    def _storage_capacity(self) -> str:
        return "10Gi"

    @default("pvc_name_template")
    def _pvc_name_template(self) -> str:
        return claim_name(self.user.name)

    @default("pod_name_template")
    def _pod_name_template(self) -> str:
        return pod_name(self.user.name, self.name)

    @default("delete_pvc")
    def _delete_pvc(self) -> bool:
        return False

    @default("server_token_scopes")
    def _server_token_scopes(self) -> list[str]:
        return SERVER_SCOPES

    @validate("profile_list")
    def _no_profiles(self, proposal: Any) -> Any:
        if proposal["value"]:
            raise TraitError(
                "found KubeSpawner.profile_list, wanted none: a profile would start what the policy does not give. Put its images and sizes "
                "into facility.yaml (images, sizes, rules), and take it out"
            )
        return proposal["value"]
