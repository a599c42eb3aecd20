"""Who deletes a pod again, in more of a hurry, waits all the same.

A pod is deleted with two minutes to end, then again with ten seconds. The kubelet was already
waiting for the runtime to stop it within two minutes, and did not look up. The change passes on the
first grace period only (POD-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.kubelet.lifecycle import stop

EXHIBIT = Exhibit(
    title="A shorter grace period is not passed on",
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
