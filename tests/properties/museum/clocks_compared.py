"""A node whose clock is wrong counts as lost.

The node controller compared the time that a kubelet had written with its own clock. A node whose
clock was some minutes behind was always late. The change uses the time in the heartbeat as the time
at which the controller saw it. A healthy node is lost, or a lost one is not (NODE-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.node_lifecycle import observe

EXHIBIT = Exhibit(
    title="The clock of a node is compared with that of the controller",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=6193,
    said="NodeController should only compare timestamps it generated locally",
    rule="NODE-1",
    changes=(
        Change(
            observe,
            "return Health(uid, sign, now, GRACE)",
            "from refk8s.core.context import parse_timestamp\n"
            "return Health(uid, sign, parse_timestamp(sign[0] or sign[1] or timestamp(now)), GRACE)",
        ),
    ),
    finder=Property(
        "test_node.test_node_1_node_7_a_node_is_lost_exactly_a_grace_after_the_last_change_that_was_seen",
        300,
    ),
)
