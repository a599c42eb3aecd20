"""A restarted proxy takes the rules away before it has new ones.

When kube-proxy started it flushed what an earlier life had programmed, and filled it again as it
learned of services: for some seconds connections failed. The change hands over what this life has
computed so far, for the whole. The first set is not whole (NET-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.network.proxy import ProgramRules

EXHIBIT = Exhibit(
    title="A restarted proxy drops the rules of services that it has not come to yet",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=75360,
    said="Restarting iptables kube-proxier causes connections to fail",
    rule="NET-8",
    changes=(
        Change(
            ProgramRules.reconcile,
            "compiled, problems = compute_all(view, self.node_name)",
            "compiled = memory.compiled",
        ),
    ),
    finder=Property(
        "test_net.test_net_8_the_first_set_handed_over_is_whole_and_later_ones_are_up_to_date"
    ),
)
