"""A Job that was resumed never ends.

A resumed Job gets a new `startTime`, and a check of the API server refused every change of
`startTime` while a Job is not suspended. So each write of the status of a resumed Job was refused,
with all that it counted. The change keeps `startTime` while a Job is suspended and refuses the new
one (JOB-13, VAL-80).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.validation.job_status import _validate_change
from refk8s.core.controllers.job_status import _with_suspension

EXHIBIT = Exhibit(
    title="A resumed Job never ends",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=134521,
    said="when resuming a suspended kubernetes job, unhandled error of job controller occured in the log of kube-controller-manager pod",
    rule="JOB-13",
    changes=(
        Change(_with_suspension, "status = replace(status, start_time=None)", "pass"),
        Change(
            _validate_change,
            "is_resumed = was.suspended and not now.suspended",
            "is_resumed = False",
        ),
    ),
    finder=Property("test_job.test_job_13_a_job_that_ran_is_suspended_and_resumed"),
)
