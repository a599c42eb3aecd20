"""The controller crashes between a node and its pods, and the pods stay ready.

A silent node was written down as Unknown, and then its pods as not ready. A controller that crashed
in between found the node Unknown when it came back, had nothing to change, and never came to the
pods: services went on sending to a dead node. The change owes the pods only in the moment when the
node becomes Unknown; this project had this bug until its museum was made. A pod of a silent node
stays ready (NODE-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.node_lifecycle import NodeLifecycle

EXHIBIT = Exhibit(
    title="Pods of a dead node stay ready because the controller crashed in between",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=50067,
    said="Pod failed to evict while Controller-manager happened to crash or change leader during the pod eviction process",
    rule="NODE-2",
    changes=(
        Change(
            NodeLifecycle.reconcile,
            "pods = unready_pods(view, key) if _is_unknown(node) else ()",
            "pods = ()",
        ),
    ),
    finder=Property(
        "test_node_silence.test_node_2_no_pod_of_a_silent_node_stays_ready_whatever_crashes_on_the_way"
    ),
)
