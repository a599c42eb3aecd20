"""A rolling update deletes pods that it needs.

The number of old pods to delete was computed from the number of requested pods, and not from the
number of available ones. If the pods of an update did not become available, and another update
followed, the old ReplicaSets shrank below the minimum. (kubernetes/kubernetes pull request #21273
fixed it in kubectl.) The change computes with the requested pods (DEP-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.rollout import shrink

EXHIBIT = Exhibit(
    title="A rolling update has fewer available pods than the minimum",
    repository="openshift/origin",
    kind="issue",
    number=7270,
    said="Deployment violates guarantees when a new deployment is started in the middle",
    rule="DEP-8",
    changes=(
        Change(
            shrink,
            "spare = new.surely_available + sum(member.surely_available for member in old) - bounds.fewest_available",
            "spare = new.surely_available + total(old) - bounds.fewest_available",
        ),
    ),
    finder=Property(
        "test_dep.test_dep_7_dep_8_a_rolling_update_keeps_its_bounds_at_every_moment", 800
    ),
)
