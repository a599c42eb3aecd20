"""A pod that has failed becomes Succeeded.

The kubelet computed the phase again from the containers that it saw. If they had been removed, the
result differed from before: Failed pods became Succeeded, Succeeded ones Pending (openshift/origin
#17011). Clients that counted finished pods got a wrong number. The change allows every change of
the phase (POD-10).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Lives
from refk8s.core.kubelet.status import compute_pod_status

EXHIBIT = Exhibit(
    title="The phase of a pod goes back",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=58711,
    said="kubelet: invalid pod phase transition from Failed to Succeeded",
    rule="POD-10",
    changes=(
        Change(
            compute_pod_status,
            "if RANK[before] > RANK[phase] or RANK[before] == 2:  # POD-10",
            "if False:",
        ),
    ),
    finder=Lives(),
)
