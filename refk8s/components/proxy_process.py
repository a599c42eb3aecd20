"""`refk8s proxy`: the service rules and network policies of this machine as a process of its own.
Rules PROC-1, PROC-5, PROC-8 (spec/processes.md)."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable

from attrs import frozen

from refk8s.adapters.warn_once import WarnOnce
from refk8s.components.component_process import (
    ClientOptions,
    Component,
    authority_of,
    run_client,
)
from refk8s.components.kubelet_process import find_addresses, find_name
from refk8s.components.pod_network import PodNetwork

ATTEMPTS_MAX, ATTEMPT_SECONDS = 60, 0.5
ANSWER_SECONDS_MAX = 10.0


@frozen
class ProxyOptions(ClientOptions):
    """The flags of `refk8s proxy`."""

    node_name: str | None = None
    node_ip: str | None = None
    pod_cidr: str | None = None
    keep: bool = False


def run_proxy(options: ProxyOptions) -> int:
    """Run `refk8s proxy` until a signal; returns the exit status. Raises CannotRun."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.this_machine import (
            create_policies,
            create_service_rules,
            node_address6,
        )
        from refk8s.core.network.policy_machine import network_policy
        from refk8s.core.network.proxy import proxy

        name = find_name(options.node_name)
        addresses = find_addresses(component, options.node_ip)
        six = node_address6() if len(addresses) == 1 else ""
        address = ",".join([*addresses, six] if six else addresses)
        pods = PodNetwork(component, name, options.pod_cidr)
        id, pod_cidr = rules_id(authority_of(component)), _in_threads(component, pods)
        rules = create_service_rules(id, address, pod_cidr, _aside)
        policies = create_policies(id, pod_cidr)
        component.add(proxy(name), rules=rules)
        component.add(network_policy(name), policies=policies)

        async def close() -> None:
            if not options.keep and component.is_ready:
                await asyncio.to_thread(rules.remove)
                await asyncio.to_thread(policies.remove)

        return f" for node {name}", close

    return run_client("proxy", options, prepare)


def rules_id(authority: str) -> str:
    """What the rules are named after: the same after each start, and another for another
    cluster."""
    return hashlib.sha256(authority.encode()).hexdigest()


def _in_threads(component: Component, pods: PodNetwork) -> Callable[[], tuple[str, str]]:
    """A function for worker threads that returns the range of the pods, or why it is unknown after
    some attempts."""
    loop = asyncio.get_running_loop()
    warn_once = WarnOnce()

    def find() -> tuple[str, str]:
        problem = "the process is stopping"
        for _ in range(ATTEMPTS_MAX):
            if component.is_stopping:
                break
            try:
                found = asyncio.run_coroutine_threadsafe(pods.ranges(), loop)
                return ",".join(map(str, found.result(ANSWER_SECONDS_MAX))), ""
            except (OSError, TimeoutError) as error:
                problem = str(error) or "the API server does not answer"
                warn_once(f"services are not served yet: {problem}; it is tried again")
                time.sleep(ATTEMPT_SECONDS)
        return "", problem

    return find


_tasks: set[asyncio.Task[None]] = set()


def _aside(work: Callable[[], object], then: Callable[[object], None]) -> None:
    async def both() -> None:
        then(await asyncio.to_thread(work))

    task = asyncio.create_task(both())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
