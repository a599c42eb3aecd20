"""A quota stays in use after the objects have been deleted.

The quota controller did not receive every deletion. What a deleted object had used was not given
back, and after some creations and deletions the quota was full although the namespace was almost
empty. Only the next complete recount, minutes later, repaired it. The change ignores deletions. In
a cluster at rest `status.used` is what the objects use (QUOTA-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Way
from refk8s.core.controllers.resource_quota import _concerned

EXHIBIT = Exhibit(
    title="A quota stays in use after its objects have been deleted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=25559,
    said="resource quota calculate object count wrong",
    rule="QUOTA-7",
    changes=(
        Change(
            _concerned,
            "if not view.count(RESOURCE_QUOTAS):",
            "if new is None or not view.count(RESOURCE_QUOTAS):",
        ),
    ),
    finder=Property("test_quota.test_quota_7_what_is_deleted_is_given_back"),
    also=(
        Way(
            "QUOTA-7",
            Property(
                "test_sim_admission.test_quota_1_pol_6_what_comes_late_holds_for_what_comes_later_after_any_faults"
            ),
        ),
    ),
)
