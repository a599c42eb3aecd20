"""The scheduler's cache keeps a pod whose binding was refused.

After a refused binding the pod was queued again, but stayed in the cache on the node of that
binding. When it was bound to another node, the cache had it twice, and its sums were wrong from
then on. The change ends a decision and keeps its pod among the assumed ones. The scheduler's
snapshot is not the view and the assumed pods (SCHED-22).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.scheduler.memory import Memory

EXHIBIT = Exhibit(
    title="A pod whose binding failed stays assumed",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=28883,
    said="Scheduler cache corruption in case of failed bindings",
    rule="SCHED-22",
    changes=(
        Change(
            Memory.settle,
            "rest = self.assumed[decision.node].delete(decision.pod.uid)",
            "rest = self.assumed[decision.node]",
        ),
    ),
    finder=Property(
        "test_sched.test_sched_3_sched_4_sched_22_refused_bindings_give_their_room_back", 600
    ),
)
