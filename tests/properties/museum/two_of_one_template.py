"""Of two ReplicaSets with the Deployment's template, the second is never scaled down.

The Deployment controller of Anvil, which is written for formal verification, counted every
ReplicaSet with the template as new, scaled up one of them, and left the others unchanged. With the
change only ReplicaSets with another template are old. More pods remain than requested (DEP-19).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.deployment_observed import observe

EXHIBIT = Exhibit(
    title="A second ReplicaSet with the new template keeps its pods",
    repository="anvil-verifier/anvil",
    kind="pull request",
    number=648,
    said="Fix VDeployment reconciler bug",
    rule="DEP-19",
    changes=(
        Change(
            observe,
            "old = revisions.by_age(rs for rs in owned if rs is not new)",
            "wanted = revisions.without_hash(deployment.spec.template)\n"
            "old = revisions.by_age(rs for rs in owned if revisions.without_hash(rs.spec.template) != wanted)",
        ),
    ),
    finder=Property(
        "test_lessons.test_dep_3_dep_19_of_two_replica_sets_with_the_template_one_is_left_with_pods"
    ),
)
