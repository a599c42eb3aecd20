"""A creation that gets AlreadyExists counts the existing object as its own.

A controller created its children by name. If the name was in use, it continued as if its creation
had succeeded: it recorded an object of another owner, and deleted it in the end. The change counts
every 409 as success. A refusal is then no failure, and is not tried again (LOOP-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="AlreadyExists counts as success",
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
