"""Requests of a simulated user about Jobs and CronJobs. Rule SIM-2 (spec/simulation.md).

The user sends them only in runs that begin with such an object, besides the requests of `user.py`.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import creation, cron_job, job
from refk8s.core.actions import Action, Submit
from refk8s.core.api import codec
from refk8s.core.api.batch_v1 import CronJob, Job
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import CRON_JOBS, JOBS, PODS, Resource
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

RESOURCES = (JOBS, CRON_JOBS)
OWN = "default"
PARALLELISM_MAX = 3
POLICIES = ("Background", "Foreground", "Orphan")


def _make_job(cluster: Cluster, chance: Random) -> Submit | None:
    """A Job of one of several kinds, with pods that succeed, fail or never end."""
    name = chance.choice(("work", "train"))
    if cluster.history.get(f"{JOBS.prefix}{OWN}/{name}") is not None:
        return None
    script = chance.choice(("sleep 2", "sleep 2", "sleep 3; exit 1", "exit 1", "sleep 900"))
    tree = job(name, chance.choice((1, 3, None)), chance.randrange(1, PARALLELISM_MAX + 1), script)
    spec: dict[str, Any] = tree["spec"]
    spec["backoffLimit"] = chance.randrange(3)
    if chance.random() < 0.5:
        spec |= {"completionMode": "Indexed", "completions": chance.choice((1, 2, 4))}
        if chance.random() < 0.5:
            spec |= {"backoffLimitPerIndex": chance.randrange(2), "backoffLimit": 9}
        elif chance.random() < 0.5:
            spec["successPolicy"] = {"rules": [{"succeededCount": 1}]}
    if chance.random() < 0.3:
        spec["podReplacementPolicy"] = "Failed"
    if chance.random() < 0.3:
        spec["activeDeadlineSeconds"] = chance.choice((1, 20))
    if chance.random() < 0.3:
        spec["ttlSecondsAfterFinished"] = chance.choice((0, 5))
    return Submit(creation(codec.from_tree(Job, tree)))


def _make_cron_job(cluster: Cluster, chance: Random) -> Submit | None:
    if cluster.history.get(f"{CRON_JOBS.prefix}{OWN}/tick") is not None:
        return None
    tree = cron_job("tick", chance.choice(("Allow", "Forbid", "Replace")))
    return Submit(creation(codec.from_tree(CronJob, tree)))


def _suspend(cluster: Cluster, chance: Random) -> Submit | None:
    resource = chance.choice(RESOURCES)
    return _change(cluster, chance, resource, {"spec": {"suspend": chance.random() < 0.4}})


def _scale(cluster: Cluster, chance: Random) -> Submit | None:
    return _change(cluster, chance, JOBS, {"spec": {"parallelism": chance.randrange(PARALLELISM_MAX + 1)}})  # fmt: skip


def _reschedule(cluster: Cluster, chance: Random) -> Submit | None:
    tree = {
        "schedule": chance.choice(("* * * * *", "@every 20s", "*/2 * * * *")),
        "concurrencyPolicy": chance.choice(("Allow", "Forbid", "Replace")),
        "successfulJobsHistoryLimit": chance.choice((0, 1, 3)),
    }
    return _change(cluster, chance, CRON_JOBS, {"spec": tree})


def _delete(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, chance.choice((JOBS, JOBS, CRON_JOBS)))
    if found is None:
        return None
    options = DeleteOptions(propagation_policy=chance.choice(POLICIES))
    resource = JOBS if found.kind == "Job" else CRON_JOBS
    return Submit(Request("delete", resource, OWN, found.metadata.name, body=options, user=ADMIN))


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, PODS)
    if found is None:
        return None
    options = DeleteOptions(grace_period_seconds=chance.choice((None, None, 0)))
    return Submit(Request("delete", PODS, OWN, found.metadata.name, body=options, user=ADMIN))


ACTS = (
    _make_job, _make_job, _make_job, _make_job, _make_cron_job, _make_cron_job, _suspend, _suspend, _scale, _reschedule, _delete, _delete,
    _delete_pod, _delete_pod,
)  # fmt: skip


def resume(cluster: Cluster) -> tuple[Action, ...]:
    """The user's last actions: resume Jobs, and suspend CronJobs, which otherwise never rest."""
    found = [
        _patch(JOBS, one, {"spec": {"suspend": False}})
        for one in _all(cluster, JOBS)
        if one.spec.suspend
    ]
    crons = [
        _patch(CRON_JOBS, one, {"spec": {"suspend": True}}) for one in _all(cluster, CRON_JOBS)
    ]
    return (*found, *crons)


def _all(cluster: Cluster, resource: Resource) -> list[Any]:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def _one(cluster: Cluster, chance: Random, resource: Resource) -> Any | None:
    found = [obj for obj in _all(cluster, resource) if obj.metadata.namespace == OWN]
    return chance.choice(found) if found else None


def _change(cluster: Cluster, chance: Random, resource: Resource, tree: Any) -> Submit | None:
    found = _one(cluster, chance, resource)
    return _patch(resource, found, tree) if found is not None else None


def _patch(resource: Resource, obj: Any, tree: Any) -> Submit:
    metadata = obj.metadata
    body = Patch("application/strategic-merge-patch+json", tree)
    return Submit(Request("patch", resource, metadata.namespace, metadata.name, body=body, user=ADMIN))  # fmt: skip
