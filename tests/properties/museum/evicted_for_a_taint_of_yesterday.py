"""A pod is bound because a taint was removed, and then evicted because of that taint.

A node has a taint until its network works. The taint is removed, and the scheduler binds a pod
there at once. The eviction controller, whose cache still shows the taint, deletes the pod. The
change evicts without a read of the node. This project had this bug: the simulator showed an endless
cycle of new and evicted pods. A pod is evicted that was never on its node together with the taint
(NODE-9).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.taint_eviction import TaintEviction

EXHIBIT = Exhibit(
    title="A pod is evicted for a taint that was removed before it was bound",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=119862,
    said="Race condition on pod eviction due to taint manager",
    rule="NODE-9",
    changes=(
        Change(
            TaintEviction.reconcile, "(_guard(node), *_eviction(pod, now)),", "_eviction(pod, now),"
        ),
    ),
    finder=Property(
        "test_lessons.test_node_9_nobody_is_evicted_for_a_taint_that_had_gone_before_he_came", 500
    ),
)
