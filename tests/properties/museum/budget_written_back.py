"""The controller gives an eviction's share of the budget back.

The disruption controller computed how many pods may be evicted. Meanwhile the API server admitted
an eviction and decremented that number. The controller's write conflicted, and it wrote its own
number again on the newer object, with pods as they were before. So one more pod was evicted than
the budget allows. The change writes the status without comparing versions (PDB-6).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.disruption import DisruptionController

EXHIBIT = Exhibit(
    title="The controller gives an eviction's share of a budget back",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=82149,
    said="PodDisruptionBudget can be violated by disruption controller",
    rule="PDB-6",
    changes=(
        Change(
            DisruptionController.reconcile,
            "body = replace(budget, status=status)",
            "body = replace(budget, status=status, metadata=replace(budget.metadata, resource_version=None))",
        ),
    ),
    finder=Property(
        "test_pdb.test_pdb_6_the_controller_does_not_give_back_what_an_eviction_has_spent"
    ),
)
