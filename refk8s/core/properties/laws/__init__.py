"""The laws of a cluster: rules of spec/ as functions on states and steps of
refk8s/core/cluster/step.py, in lists.

The simulator, the explorer and the properties check every step with them. There are five kinds:

    change     what one write did to one object: `check(change, before, after)`
    request    what a request did when it arrived: `check(arrived, before, after)`
    decision   what a component requests, on its view: `check(decision, before, after)`
    step       what one action did to the cluster: `check(before, action, after)`
    rest       the settled cluster after all faults: `check(cluster)`

A check returns None if its rule does not apply (so a report can count how often a rule was tested),
else a sentence for every way in which the rule is broken. It selects the values that the rule is
about, and a predicate of the same name in `predicates/` checks them. It uses what is stored, sent,
in view and running, but not how the components decide; it reads the past in the history. Its cost
is proportional to what changed.
"""

from collections import Counter
from collections.abc import Iterable

from refk8s.core.actions import Action
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Broken, Law, arrived, decisions
from refk8s.core.properties.laws import (
    admission_policies,
    api,
    apiservers,
    apply,
    attach_detach,
    autoscaler,
    cron_job,
    daemon_set,
    deployment,
    devices,
    disruption,
    dns,
    endpoints,
    garbage_collector,
    job,
    kubelet,
    kubernetes_service,
    leader_election,
    loop,
    namespace,
    network,
    node,
    node_network,
    owners,
    pod,
    replica_set,
    resource_quota,
    scheduler,
    services,
    stateful_set,
    store,
    volume_binding,
    watch,
    webhooks,
)

OF_CHANGES: tuple[Law, ...] = (
    *webhooks.OF_CHANGES, *store.OF_CHANGES, *api.OF_CHANGES, *namespace.OF_CHANGES, *owners.OF_CHANGES, *scheduler.OF_CHANGES,
    *pod.OF_CHANGES, *kubelet.OF_CHANGES, *services.OF_CHANGES, *endpoints.OF_CHANGES,
    *leader_election.OF_CHANGES, *node_network.OF_CHANGES, *job.OF_CHANGES, *cron_job.OF_CHANGES,
    *volume_binding.OF_CHANGES, *resource_quota.OF_CHANGES, *apply.OF_CHANGES,
    *devices.OF_CHANGES, *attach_detach.OF_CHANGES, *admission_policies.OF_CHANGES,
    *kubernetes_service.OF_CHANGES,
)  # fmt: skip
OF_REQUESTS: tuple[Law, ...] = (
    *store.OF_REQUESTS, *api.OF_REQUESTS, *garbage_collector.OF_REQUESTS, *namespace.OF_REQUESTS,
    *node.OF_REQUESTS, *pod.OF_REQUESTS, *kubelet.OF_REQUESTS, *apply.OF_REQUESTS,
    *disruption.OF_REQUESTS, *cron_job.OF_REQUESTS,
)  # fmt: skip
OF_DECISIONS: tuple[Law, ...] = (
    *loop.OF_DECISIONS, *owners.OF_DECISIONS, *replica_set.OF_DECISIONS, *deployment.OF_DECISIONS,
    *garbage_collector.OF_DECISIONS, *node.OF_DECISIONS, *scheduler.OF_DECISIONS,
    *job.OF_DECISIONS, *autoscaler.OF_DECISIONS,
    *stateful_set.OF_DECISIONS, *daemon_set.OF_DECISIONS,
)  # fmt: skip
OF_STEPS: tuple[Law, ...] = (
    *store.OF_STEPS, *watch.OF_STEPS, *scheduler.OF_STEPS, *pod.OF_STEPS, *kubelet.OF_STEPS, *network.OF_STEPS,
    *leader_election.OF_STEPS, *dns.OF_STEPS, *apiservers.OF_STEPS, *node_network.OF_STEPS,
    *devices.OF_STEPS,
)  # fmt: skip
OF_REST: tuple[Law, ...] = (
    *api.OF_REST, *watch.OF_REST, *replica_set.OF_REST, *deployment.OF_REST, *garbage_collector.OF_REST,
    *namespace.OF_REST, *node.OF_REST, *scheduler.OF_REST, *kubelet.OF_REST, *endpoints.OF_REST, *network.OF_REST,
    *leader_election.OF_REST, *dns.OF_REST, *node_network.OF_REST, *job.OF_REST,
    *stateful_set.OF_REST, *daemon_set.OF_REST, *volume_binding.OF_REST, *resource_quota.OF_REST,
    *attach_detach.OF_REST, *devices.OF_REST, *kubernetes_service.OF_REST,
)  # fmt: skip


def all_laws() -> tuple[Law, ...]:
    """Every law of every kind."""
    return (*OF_CHANGES, *OF_REQUESTS, *OF_DECISIONS, *OF_STEPS, *OF_REST)


def judge(
    before: Cluster, action: Action, after: Cluster, tested: Counter[str] | None = None
) -> list[Broken]:
    """The rules that a step breaks. `tested` counts by rule how often a law applied."""
    found: list[Broken] = []
    if after.last_commit is not None:
        for change in after.last_commit.changes:
            for law in OF_CHANGES:
                if change.key.startswith(law.prefix):
                    _note(found, law, law.check(change, before, after), tested)
    request = arrived(before, action, after)
    if request is not None:
        for law in OF_REQUESTS:
            if request.request.user.name.startswith(law.prefix):
                _note(found, law, law.check(request, before, after), tested)
    if before.components is not after.components:
        for decision in decisions(before, after):
            for law in OF_DECISIONS:
                if decision.reconciler.startswith(law.prefix):
                    _note(found, law, law.check(decision, before, after), tested)
    kind = type(action)
    for law in OF_STEPS:
        if not law.actions or kind in law.actions:
            _note(found, law, law.check(before, action, after), tested)
    return found


def judge_rest(cluster: Cluster, tested: Counter[str] | None = None) -> list[Broken]:
    """The rules that a settled cluster breaks."""
    found: list[Broken] = []
    for law in OF_REST:
        _note(found, law, law.check(cluster), tested)
    return found


def _note(
    found: list[Broken], law: Law, wrong: Iterable[str] | None, tested: Counter[str] | None
) -> None:
    if wrong is None:
        return
    if tested is not None:
        tested[law.rule] += 1
    found += [Broken(law.rule, words) for words in wrong]
