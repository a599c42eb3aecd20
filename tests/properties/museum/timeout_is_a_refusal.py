"""A binding that timed out counts as refused.

etcd was slow, and the scheduler got an error for a binding that had taken effect. It removed the
pod from its cache and bound a second pod to the same node, against the anti-affinity of the two.
The change counts every request without a response as refused. The room of a pod is used again
although the pod may have it (SCHED-22).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="A binding without a response counts as refused, and its room is given to another pod",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=100140,
    said="Pods with “hard” podAntiAffinity were scheduled to the same node",
    rule="SCHED-22",
    changes=(
        Change(
            requests.take_answer,
            "if response is None or response.code == 503:  # LOOP-6: unknown, so the same again",
            "if response is None:\n    answer_for(draft, flight.item, Response(500, None))\n    return\nif response.code == 503:",
        ),
    ),
    finder=Property("test_sched.test_sched_22_a_binding_whose_answer_is_lost_keeps_its_room"),
)
