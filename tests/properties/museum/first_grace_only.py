"""A second delete with a shorter grace period does not end the pod earlier.

A pod is deleted with a grace period of two minutes, then again with ten seconds. The kubelet was
already waiting for the runtime to stop the pod within two minutes, and ignored the second delete.
The change passes on only the first grace period (POD-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.kubelet.lifecycle import stop

EXHIBIT = Exhibit(
    title="A shorter grace period has no effect",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=83916,
    said="kubelet does not honor shortened grace period on already-deleting pod",
    rule="POD-7",
    changes=(Change(stop, "elif until < memory.grace_until:  # POD-7", "elif False:"),),
    finder=Property(
        "test_pod.test_pod_7_a_shorter_grace_period_counts_at_once_and_a_longer_one_never", 300
    ),
)
