"""A rollout that was scaled on its way never goes on.

Each ReplicaSet notes for how many replicas it was sized; one that was sized for another number
means that the Deployment was scaled, and scaling goes before rolling out. Where the size was right
by chance the note was not renewed: the Deployment passed for scaled for ever. The change leaves
such a note as it is. The rollout does not end (DEP-19).
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
