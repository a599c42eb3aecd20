"""The Lease of a leader that stops is not released.

The record that a stopping leader wrote had no duration. The API server refused it, since
`leaseDurationSeconds` must be greater than 0. So the next leader had to wait until the Lease had
expired. The change writes a duration of 0. The Lease still names the instance that has stopped
(ELECT-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop.lease_lock import released

EXHIBIT = Exhibit(
    title="The API server refuses the release of a Lease",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=88925,
    said="Fix release of lease in leader election",
    rule="ELECT-8",
    changes=(Change(released, "lease_duration_seconds=1,", "lease_duration_seconds=0,"),),
    finder=Property("test_elect.test_elect_8_a_driver_waits_for_the_release"),
)
