"""A StatefulSet keeps a hundred thousand revisions.

The pods of a StatefulSet were refused, and its template was changed again and again by an operator.
The controller deleted surplus revisions only at the end of a reconciliation in which nothing was
refused, so they were never deleted. The change deletes them after the pods are created (REV-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.stateful_set import StatefulSetReconciler

EXHIBIT = Exhibit(
    title="Revisions of a StatefulSet are never deleted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=85690,
    said="StatefulSet does not clean up ControllerRevisions in some situations",
    rule="REV-5",
    changes=(
        Change(
            StatefulSetReconciler.reconcile,
            "(renewal, cleaning, *steps.waves)",
            "(renewal, *steps.waves, cleaning)",
        ),
    ),
    finder=Property("test_rev.test_rev_5_refused_pods_do_not_hold_it_back"),
)
