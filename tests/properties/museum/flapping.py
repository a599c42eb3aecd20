"""An autoscaler removes and adds the same replicas again and again.

Replicas may be removed only when no more were needed for five minutes. The autoscaler forgot when
it had scaled last, because each write of its status reset that time. So a short dip of the load
removed replicas, which were needed again a minute later. The change forgets the recommendations
before the present one (HPA-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Way
from refk8s.core.controllers.horizontal_pod_autoscaler import _Round

EXHIBIT = Exhibit(
    title="An autoscaler flaps",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=16275,
    said="Horizontal pod autoscaler is not stable",
    rule="HPA-8",
    changes=(
        Change(
            _Round.normalized,
            "records = (*entry.recommendations, (self.now, proposed))",
            "records = ((self.now, proposed),)",
        ),
    ),
    finder=Property(
        "test_hpa.test_hpa_8_nothing_is_removed_for_five_minutes_after_a_higher_recommendation"
    ),
    also=(
        Way(
            "HPA-8",
            Property("test_sim_api_servers.test_hpa_8_an_autoscaler_does_not_flap_with_its_metric"),
        ),
    ),
)
