"""Simulated runs with Jobs and CronJobs (spec/simulation.md, spec/workloads/)."""

import pytest

from refk8s.checking.simulator.scenario import job_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, simulate

REQUESTS = read_manifests(job_manifests())

MET = {61: "JOB-3: a pod that was orphaned was counted while it had its finalizer"}
"""Seeds that have found a mistake, and what it was."""


@pytest.mark.parametrize("seed", [0, 1, 2, 3, *MET])
def test_sim_3_jobs_reach_the_desired_state_after_any_faults(seed):
    run = simulate(Setup(seed=seed, steps=2_500, nodes=3, requests=REQUESTS))
    assert not run.broken, run.broken[0]


def test_sim_2_the_user_changes_jobs_in_these_runs():
    run = simulate(Setup(seed=7, steps=6_000, nodes=3, requests=REQUESTS))
    assert not run.broken, run.broken[0]
    assert {"JOB-1", "JOB-2", "JOB-3", "JOB-6", "JOB-11", "CRON-3", "CRON-5"} <= set(run.tested)
