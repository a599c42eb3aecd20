"""A scheduled time is run twice.

A controller of workflows started a workflow for a scheduled time under a random name, and then
wrote the time to the status. The write was refused, because the object had changed. The next
reconciliation found the time not written, and started a second workflow. The change gives Jobs
random names, and counts on the status alone (CRON-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.cron_job import _creation, _is_named_for

EXHIBIT = Exhibit(
    title="A scheduled time is run twice",
    repository="argoproj/argo-workflows",
    kind="issue",
    number=2694,
    said="Duplicate start when using CronWorkflow",
    rule="CRON-3",
    changes=(
        Change(_creation, "name=name,", 'generate_name=f"{metadata.name}-",'),
        Change(
            _is_named_for,
            'return job.metadata.name == f"{cron_job.metadata.name}-{at // MINUTE}"',
            "return False",
        ),
    ),
    finder=Property("test_cron.test_cron_3_a_crash_after_any_step_runs_no_time_twice"),
)
