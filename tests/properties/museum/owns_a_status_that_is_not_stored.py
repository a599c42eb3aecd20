"""An apply owns a status that is not stored.

A request to the main path of an object does not write its status, and server-side apply gave the
fields of the status to the manager all the same. Who applied an object as it had been read took
part in what the controller owns, with a value that is nowhere; the next one who applied it had a
conflict about fields that no apply writes. The change lets an apply own what its path does not
write. The law of APPLY-7 looks at who owns the status after an apply.
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Way
from refk8s.core.apiserver.apply.apply import _Work

EXHIBIT = Exhibit(
    title="An apply owns a status that is not stored",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=75564,
    said="server-side apply takes ownership of fields that don't get set due to status wiping",
    rule="APPLY-7",
    changes=(
        Change(
            _Work.applied,
            "applied_paths(self.type, config), reset_fields(request.resource, request.subresource)",
            "applied_paths(self.type, config), EMPTY",
        ),
    ),
    finder=Property(
        "test_own_races.test_apply_7_a_controllers_status_is_not_taken_by_who_applies_what_it_has_read"
    ),
    also=(
        Way(
            "APPLY-7",
            Property("test_sim_apply.test_apply_7_in_a_simulated_run_no_apply_owns_status"),
        ),
    ),
)
