"""The kubelet deletes the next pod of the name.

When a deleted pod has ended, the kubelet removes it from the API by its name. If it had been
removed already and a new pod of this name had been created, the new one was removed. (Tests that
create one pod after another failed now and then.) The change omits the uid. A pod is deleted whose
deletion no client requested (KUBELET-32).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.kubelet.status_writer import StatusWriter

EXHIBIT = Exhibit(
    title="The last delete of a pod removes another pod of its name",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=25224,
    said="Delete pod with uid as precondition.",
    rule="KUBELET-32",
    changes=(
        Change(
            StatusWriter.reconcile,
            "options = DeleteOptions(grace_period_seconds=0, preconditions=Preconditions(uid=pod.metadata.uid))",
            "options = DeleteOptions(grace_period_seconds=0)",
        ),
    ),
    finder=Property(
        "test_lessons.test_kubelet_32_the_next_pod_of_the_name_survives_the_end_of_the_first", 600
    ),
)
