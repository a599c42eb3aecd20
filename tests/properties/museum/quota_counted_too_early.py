"""A quota is exceeded, because its controller counts on an old cache.

A restarted controller counted the pods before its cache had received them all. It wrote the number
into the quota, although the API server had charged more, and further pods were admitted. (Pull
request #50551 makes the count wait for the cache.) The change counts on every view, however old it
is. A count never lacks an object that was charged (QUOTA-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Way
from refk8s.core.controllers.resource_quota import _Count

EXHIBIT = Exhibit(
    title="A quota is exceeded, because the controller counts on an old cache",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=51454,
    said="ResourceQuota got something wrong when stop kube-controller-manager for a while",
    rule="QUOTA-8",
    changes=(
        Change(
            _Count._take_resource,
            "is_proven = self.view.table(resource).revision >= self.revision",
            "is_proven = True",
        ),
    ),
    finder=Property(
        "test_quota_races.test_quota_1_quota_2_quota_8_no_quota_is_exceeded_whatever_races", 300
    ),
    also=(
        Way(
            "QUOTA-8",
            Property(
                "test_sim_admission.test_quota_1_pol_6_what_comes_late_holds_for_what_comes_later_after_any_faults"
            ),
        ),
    ),
)
