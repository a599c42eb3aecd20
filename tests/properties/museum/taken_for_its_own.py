"""A creation that is told "it exists" takes what exists for its own.

A controller created its children by name, and where the name was taken it went on as if the
creation had been its own: a stranger's object was kept in its books, and deleted in the end. The
change takes every 409 for success. A refusal is then no failure, and nobody tries again (LOOP-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="AlreadyExists is taken for success",
    repository="NVIDIA/cluster-readiness-engine",
    kind="issue",
    number=214,
    said="[Bug]: AlreadyExists child resources are adopted and later deleted without ownership verification",
    rule="LOOP-5",
    changes=(
        Change(
            requests.take_answer,
            'elif response.ok or (flight.request.verb == "delete" and response.code == 404):',
            'elif response.ok or response.code == 409 or (flight.request.verb == "delete" and response.code == 404):',
        ),
    ),
    finder=Property("test_loop_by_hand.test_loop_5_a_refusal_of_the_first_sending_is_a_failure"),
)
