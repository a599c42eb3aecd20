"""A timer that fires early runs a job twice.

The library with which Kubernetes reads schedules also runs jobs. Its timer fired some seconds
before the scheduled time, as it does when a clock is adjusted. The job ran, and the next run was
computed from the time of the clock: it was the same scheduled time. The change takes a time that is
two seconds ahead as due, and goes on from the time of the clock (CRON-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.cron_job import CronJobReconciler, _compute_due

EXHIBIT = Exhibit(
    title="A timer that fires early runs a job twice",
    repository="robfig/cron",
    kind="issue",
    number=94,
    said="Job run twice when timer triggers to early",
    rule="CRON-3",
    changes=(
        Change(
            _compute_due,
            "at = last_time(schedule, zone, earliest, now)",
            "at = last_time(schedule, zone, earliest, now + 2 * SECOND)",
        ),
        Change(
            CronJobReconciler.reconcile,
            "started = replace(status, last_schedule_time=timestamp(due.at))",
            "started = replace(status, last_schedule_time=timestamp(now))",
        ),
    ),
    finder=Property("test_cron.test_cron_3_a_clock_that_is_moved_runs_no_time_twice", 1_000),
)
