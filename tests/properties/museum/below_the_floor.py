"""A rolling update gives up pods that it needed.

How far old pods may go was reckoned from how many had been asked for, not from how many were
available. An update whose new pods did not come up, and was followed by another, went on from
there: the old ones shrank below what must stay. (kubernetes/kubernetes pull request #21273 mended
it in kubectl.) The change reckons with what is asked for (DEP-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.rollout import shrink

EXHIBIT = Exhibit(
    title="A rolling update goes below what must stay available",
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
