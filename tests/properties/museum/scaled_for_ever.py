"""A rollout that was scaled while it was in progress does not continue.

Each ReplicaSet has an annotation with the number of replicas for which it was sized. If this number
differs from that of the Deployment, the Deployment was scaled, and scaling has priority over the
rollout. If the size was right by chance, the annotation was not updated, so the Deployment seemed
to be scaled for ever. The change leaves such an annotation as it is. The rollout does not end
(DEP-19).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.deployment import scale

EXHIBIT = Exhibit(
    title="A rollout stops because the Deployment seems to be scaled for ever",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=138036,
    said="deployment: fix stuck rollout when scaling during rolling update with maxSurge=0",
    rule="DEP-19",
    changes=(
        Change(
            scale,
            "if only is None or (only.spec.replicas == wanted and not _was_sized_for_another(only, observed)):",
            "if only is None or only.spec.replicas == wanted:",
        ),
    ),
    finder=Property(
        "test_lessons.test_dep_19_dep_9_a_rollout_ends_that_was_scaled_on_its_way", 600
    ),
)
