"""A pod is bound because a taint has gone, and evicted because of it.

A node is tainted until its network is up. The taint goes, the scheduler binds a pod there at once,
and the eviction controller, whose cache still shows the taint, deletes it. The change evicts
without making sure of the node; this project had this bug: the simulator saw pods come and go in a
circle without any time passing. A pod is evicted that never shared its node with the taint
(NODE-9).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.taint_eviction import TaintEviction

EXHIBIT = Exhibit(
    title="A pod is evicted for a taint that had gone before it came",
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
