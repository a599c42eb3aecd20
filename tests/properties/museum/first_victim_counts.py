"""Preemption chooses the node with the more important victim.

The node whose most important victim is the least important is to be preferred. The scheduler took
the first victim of each list for the most important. After another change, those that a disruption
budget protects came first, so a pod of low priority hid one of high priority behind it. The change
compares the least important victims (SCHED-36).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.scheduler.preempt import rank_of

EXHIBIT = Exhibit(
    title="Preemption chooses the node with the more important victim",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=129136,
    said="Preemption picks wrong victim node with higher priority pod on it after #128307",
    rule="SCHED-36",
    changes=(
        Change(
            rank_of,
            "highest = max(victim.priority for victim in victims)",
            "highest = min(victim.priority for victim in victims)",
        ),
    ),
    finder=Property("test_sched_victims.test_sched_36_the_most_important_victim_of_a_node_counts"),
)
