"""A rollout cannot continue, because the name of its ReplicaSet is in use.

The name of a ReplicaSet has the hash of its template. Two templates had one hash, or the name
belonged to another object. The Deployment controller tried to create the ReplicaSet, got
AlreadyExists, and tried again for ever. The change never chooses another name (DEP-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.deployment import create

EXHIBIT = Exhibit(
    title="A collision of hashes stops a rollout",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=29735,
    said="Error syncing deployment, replica set already exists",
    rule="DEP-2",
    changes=(
        Change(
            create,
            'if view.get(REPLICA_SETS, f"{new.metadata.namespace}/{new.metadata.name}") is not None:',
            "if False:",
        ),
    ),
    finder=Property("test_dep.test_dep_2_a_name_that_a_stranger_has_is_not_taken"),
)
