"""A restarted proxy removes the old rules before it has the new ones.

When kube-proxy started, it removed all rules of an earlier process, and added rules as it received
services. For some seconds connections failed. The change programs an incomplete set of rules. The
first set is not complete (NET-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.network.proxy import ProgramRules

EXHIBIT = Exhibit(
    title="A restarted proxy removes the rules of services that it has not received yet",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=75360,
    said="Restarting iptables kube-proxier causes connections to fail",
    rule="NET-8",
    changes=(
        Change(
            ProgramRules.reconcile,
            "compiled, checks, problems = compute_all(view, self.node_name)",
            "compiled = memory.compiled",
        ),
    ),
    finder=Property(
        "test_net.test_net_8_the_first_set_handed_over_is_whole_and_later_ones_are_up_to_date"
    ),
)
