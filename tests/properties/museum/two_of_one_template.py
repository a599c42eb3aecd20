"""Of two ReplicaSets with the Deployment's template the second is never scaled down.

The Deployment controller of Anvil, which is written to be verified, took every ReplicaSet that
carries the template for new, grew one of them, and left the others alone. The change calls old only
what carries another template. More pods stay than were asked for (DEP-19).
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
