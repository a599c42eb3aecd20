"""A binding that timed out is taken for one that was refused.

etcd was slow; the scheduler got an error for a binding that had taken effect, forgot the pod, and
gave its node to a second one, which had promised not to be near it. The change takes every
unanswered request for a refused one. The room of a pod is given away although it may have it
(SCHED-22).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="A binding without an answer is taken for a refused one, and its room given away",
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
