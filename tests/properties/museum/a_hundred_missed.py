"""A CronJob never runs again after a hundred missed times.

A cluster was stopped over night. In the morning the controller counted more than a hundred missed
times of a CronJob that runs every minute, reported an error and started nothing. The number of
missed times only grew, so the CronJob had to be deleted and created again. With the change the
Event is all that happens (CRON-4).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.cron_job import _compute_due

EXHIBIT = Exhibit(
    title="A CronJob never runs again after a hundred missed times",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=42649,
    said="Stopping cluster overnight prevents scheduled jobs from running after cluster startup.",
    rule="CRON-4",
    changes=(
        Change(
            _compute_due,
            "return _Due(at, _next_of_every(schedule, at) or wake_at, notes)",
            "return _Due(None if notes else at, _next_of_every(schedule, at) or wake_at, notes)",
        ),
    ),
    finder=Property(
        "test_cron.test_cron_4_more_than_a_hundred_missed_times_are_reported_and_the_last_is_run"
    ),
)
