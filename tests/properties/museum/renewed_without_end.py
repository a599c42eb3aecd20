"""A leader waits for ever for the response to its renewal, and goes on leading.

The client of the election had no timeout, and the deadline of a renewal was only compared after its
response. If the API server did not respond, an instance went on as leader although its lease had
ended, and another one took over. The change makes a leader with a renewal in transit hold its lease
until the response. It acts after its lease has ended (ELECT-4), and beside the next leader
(ELECT-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop.elector import _Turn
from refk8s.core.loop.lease_lock import ElectionConfig

EXHIBIT = Exhibit(
    title="A renewal without a response keeps the lease alive",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=65090,
    said="leader election client should set timeout",
    rule="ELECT-4",
    changes=(
        Change(ElectionConfig.request_timeout, "self.renew_deadline // 2", "1_000 * SECOND"),
        Change(
            _Turn._is_held,
            "return renewed_at is not None and",
            "return renewed_at is not None and self.state.sent is not None or renewed_at is not None and",
        ),
        Change(
            _Turn._ask_to_be_woken,
            "wishes.append(state.renewed_at + config.renew_deadline)",
            "pass",
        ),
    ),
    finder=Property("test_elect.test_elect_4_the_lease_ends_a_deadline_after_the_renewal_was_sent"),
    also=(Way("ELECT-4", Simulation(instances=2, faults="slow-store=0.01:40,partition=0.005:20")),),
)
