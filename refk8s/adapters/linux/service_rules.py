"""The service rules of this machine: in the kernel if it accepts them, else in a user-space proxy.
Rules NET-17 and NET-22 (spec/network.md)."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from refk8s.adapters.linux.kernel_rules import (
    NO_PODS,
    SERVICES,
    KernelRules,
    why_no_kernel_rules,
)
from refk8s.adapters.linux.userspace_rules import UserspaceRules
from refk8s.core.api.families import Network
from refk8s.core.ports import RuleSet

if TYPE_CHECKING:
    from refk8s.adapters.linux.health_checks import HealthChecks

log = logging.getLogger("refk8s")

Aside = Callable[[Callable[[], object], Callable[[object], None]], None]
"""Calls the first in a worker thread, and the second with its result in the loop's thread."""


class ServiceRules:
    """The service rules of this machine.

    The implementation is chosen at the first set, since the pod range is not known earlier.
    """

    def __init__(
        self,
        cluster_id: str,
        node_ip: str,
        pod_cidr: Callable[[], tuple[str, str]],
        aside: Aside,
        services: tuple[Network, ...] = SERVICES,
    ) -> None:
        """`pod_cidr` returns the pod range, or one of each family with a comma, or why it is
        unknown; it is slow. `services`: the ranges of cluster IPs."""
        self._services = services
        self._cluster_id = cluster_id
        self._node_ip = node_ip
        self._pod_cidr = pod_cidr
        self._aside = aside
        self._choosing = threading.Lock()
        self._chosen: KernelRules | UserspaceRules | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._health_checks: HealthChecks | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Replace the rules; `done` gets "" or the error, in the event loop's thread."""
        self._answer_health_checks(rules)
        if self._chosen is not None:
            self._chosen.program(rules, done)
            return

        def chosen(problem: object) -> None:
            if problem or self._chosen is None:
                done(str(problem))
            else:
                self._chosen.program(rules, done)

        self._aside(self._choose, chosen)

    def _answer_health_checks(self, rules: RuleSet) -> None:
        if not rules.health_checks and self._health_checks is None:
            return
        self._loop = asyncio.get_running_loop()
        if self._health_checks is None:
            # loaded only if a Service needs it: few do
            from refk8s.adapters.linux.health_checks import HealthChecks

            self._health_checks = HealthChecks()
        task = self._loop.create_task(self._health_checks.program(rules.health_checks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _choose(self) -> str:
        """Choose an implementation; returns the error or "". Called in a worker thread."""
        with self._choosing:
            if self._chosen is not None:
                return ""
            pod_cidr, problem = self._pod_cidr()
            if problem:
                return problem
            self._chosen = choose_rules(self._node_ip, pod_cidr, self._cluster_id, self._services)
            return ""

    def remove(self) -> None:
        """Remove the rules of this cluster; slow. Called in a worker thread."""
        if self._health_checks is not None and self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._health_checks.close(), self._loop).result(10)
        self._choose()
        if self._chosen is None:  # a process that has not learned the range, or has no engine
            self._chosen = choose_rules(self._node_ip, NO_PODS, self._cluster_id, self._services)
        self._chosen.remove()


def choose_rules(
    node_ip: str, pod_cidr: str, cluster_id: str, services: tuple[Network, ...] = SERVICES
) -> KernelRules | UserspaceRules:
    """Kernel rules if possible, else the user-space proxy with one warning (NET-17).

    Takes some milliseconds; may be called in any thread.
    """
    problem = why_no_kernel_rules(with_ipv6=":" in pod_cidr)
    if not problem:
        return KernelRules(node_ip, pod_cidr, cluster_id, services)
    log.warning(
        "services are served by this process and only while it runs, "
        "pods do not see their clients' addresses, and there is no SCTP: "
        "the kernel takes no rules here (%s)",
        problem,
    )
    return UserspaceRules(node_ip, pod_cidr, cluster_id)
