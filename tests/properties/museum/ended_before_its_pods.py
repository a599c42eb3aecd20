"""A Job counts as finished while its pods still have the finalizer.

A Job was reported Complete before the finalizers of its pods were removed. The controller does
nothing for finished Jobs, so when the Job was deleted in the foreground, the Job waited for the
pods and the pods for the Job. The change reports the end at once (JOB-11).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.job_status import compute_status

EXHIBIT = Exhibit(
    title="A Job counts as finished before its pods are counted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=109429,
    said="Jobs deletion races with jobs-tracking pods finalizer",
    rule="JOB-11",
    changes=(
        Change(
            compute_status,
            "if active or terminating or any(map(is_tracked, pods)) or _has_uncounted(status):",
            "if active or terminating:",
        ),
    ),
    finder=Property(
        "test_job.test_job_11_the_end_is_stored_then_pods_are_deleted_then_it_is_reported"
    ),
)
