"""One device is allocated to two claims.

When many pods were scheduled quickly, the scheduler sometimes allocated a device for a second
claim, because its list of allocated devices did not show yet what it had decided itself a moment
before. Both pods then got the device, unless the driver refused the second one. The change counts
only the allocations that the view of the scheduler shows (DRA-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.scheduler.claims import Devices
from refk8s.core.scheduler.device_pools import is_lost

EXHIBIT = Exhibit(
    title="One device is allocated to two claims",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=136269,
    said="DRA scheduler: double allocation fixes",
    rule="DRA-5",
    changes=(
        Change(
            Devices.__init__,
            "self._taken = {device for one in in_flight.values() for device in one.devices}",
            "self._taken: set[DeviceId] = set()",
        ),
        Change(
            is_lost,
            "if any(device in inventory.holders for device in (*mine, *shares)):",
            "if False:",
        ),
    ),
    finder=Property("test_dra.test_dra_5_dra_8_dra_12_pods_of_a_template_get_a_device_each", 100),
    also=(Way("DRA-5", Simulation(steps=2_500, manifests="device_manifests")),),
)
