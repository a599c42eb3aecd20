"""An instance leads as soon as it reads its own name in the Lease.

A Java client told its user that it leads when it had read the Lease, before its own write of it had
succeeded. Where another instance acquired the Lease in between, the write was refused, and two
instances led. The change starts the component when the Lease that was read names the instance. It
acts while another instance holds the Lease (ELECT-5), or without a write of its own (ELECT-6).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Way
from refk8s.core.loop.elector import _Turn

EXHIBIT = Exhibit(
    title="An instance leads before its write of the Lease has succeeded",
    repository="fabric8io/kubernetes-client",
    kind="issue",
    number=7350,
    said="Improper callback timing in leaderelection leads to the dual-leader",
    rule="ELECT-6",
    changes=(
        Change(
            _Turn._read,
            "self._set(lease=lease)",
            "self._set(lease=lease)\n"
            "if holder_of(lease) == identity:\n"
            "    self._written(now, lease)",
        ),
    ),
    finder=Property("test_elect.test_elect_6_reading_its_own_identity_is_not_enough"),
    also=(
        Way(
            "ELECT-4",
            Property("test_elect.test_elect_5_only_the_stored_holder_acts_whatever_happens", 400),
        ),
    ),
)
