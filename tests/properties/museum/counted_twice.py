"""A Job counts a pod twice.

The controller wrote the uid of a finished pod to the status, removed the pod's finalizer, and then
replaced the uid by an increment. Its cache of pods was behind and still showed the finalizer. So
the next reconciliation found a finished pod that was not recorded, and counted it once more. The
change replaces a uid by an increment while the view shows the finalizer (JOB-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.job_status import count_pods

EXHIBIT = Exhibit(
    title="A Job counts a pod twice",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=105200,
    said="Tracking with finalizers might count a Pod more than once",
    rule="JOB-3",
    changes=(
        Change(
            count_pods,
            "succeeded = [uid for uid in uncounted.succeeded or () if uid in tracked or uid in elsewhere]",
            "succeeded: list[str] = []",
        ),
    ),
    finder=Property(
        "test_job.test_job_1_job_3_each_pod_is_counted_once_although_the_controller_crashes"
    ),
)
