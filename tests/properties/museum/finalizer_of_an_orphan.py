"""The pod of a deleted Job is never removed.

A Job was deleted while one of its pods had finished and was not counted yet. The pod's last change
reached the controller while the Job was still in its cache, so it was left to the Job; afterwards
neither the Job nor the pod changed any more. The pod kept the finalizer by which a Job counts it,
and its namespace could not be deleted. With the change, pods are not reconciled when their Job is
deleted (JOB-4).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.job import _keys_of_job

EXHIBIT = Exhibit(
    title="The pod of a deleted Job keeps its finalizer",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=108645,
    said="JobTrackingWithFinalizers: Orphan pods might not get the finalizer cleared",
    rule="JOB-4",
    changes=(Change(_keys_of_job, "if new is None or is_finished(new):", "if False:"),),
    finder=Property("test_job.test_job_4_pods_without_a_job_that_counts_them_lose_the_finalizer"),
)
