"""The control plane loses its network and evicts every pod of the cluster.

No heartbeat of any node arrived, because the node controller itself was cut off. It counted all
nodes as lost, and as soon as requests succeeded again it deleted every pod of the cluster. The
change evicts although no node is healthy (NODE-6).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.node_lifecycle import eviction_pause

EXHIBIT = Exhibit(
    title="Every node counts as lost, and all pods are evicted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=24597,
    said="NodeController shouldn't evict Pods when all Nodes are NotReady",
    rule="NODE-6",
    changes=(
        Change(
            eviction_pause,
            "if all(ready == 0 for nodes, ready in counts.values() if nodes):\n    return None",
            "",
        ),
    ),
    finder=Property("test_node.test_node_6_nobody_is_evicted_when_nobody_is_well"),
)
