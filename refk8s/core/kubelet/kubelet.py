"""The kubelet of one node: a loop with a pod worker, a status writer and a node agent, which share
one memory (spec/kubelet.md).
"""

from refk8s.core.api.user import node_user
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.node_agent import NodeAgent
from refk8s.core.kubelet.pod_worker import PodWorker
from refk8s.core.kubelet.status_writer import StatusWriter
from refk8s.core.loop.loop import Loop

DEFAULT = KubeletConfig()


def kubelet(node_name: str, config: KubeletConfig = DEFAULT) -> Loop:
    """The machine of one node's kubelet; its name is "kubelet/NODE"."""
    reconcilers = (
        NodeAgent(node_name, config),
        PodWorker(node_name, config),
        StatusWriter(node_name, config),
    )
    return Loop(
        f"kubelet/{node_name}",
        reconcilers,
        component="kubelet",
        host=node_name,
        user=node_user(node_name),
    )
