"""The components besides the API server as processes of their own. Rules PROC-1, PROC-2, PROC-5
(spec/processes.md)."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from refk8s.components.files import CannotRun
from refk8s.components.listening import SERVICE_CIDR
from refk8s.components.process import WriteLine, run_process, started
from refk8s.core.client.servers import may_learn
from refk8s.core.loop.elector import inner_state
from refk8s.core.loop.state import LoopState

if TYPE_CHECKING:
    from refk8s.components.client.account_tokens import AccountApi
    from refk8s.components.client.learning import ServerLearner
    from refk8s.components.client.shared_api import SharedApi
    from refk8s.components.driver import Driver
    from refk8s.components.health_server import HealthServer
    from refk8s.core.loop.lease_lock import ElectionConfig
    from refk8s.core.scheduler_configuration.read import SchedulerConfiguration

HTTPS_PORTS = {"kube-controller-manager": 10257, "kube-scheduler": 10259}
HTTP_PORTS = {"kubelet": 10248, "kube-dns": 8080, "kube-proxy": 10256}
"""The default ports of the health endpoints (PROC-6)."""
FINISH_SECONDS = 5.0
"""How long a component that is stopped may take to release its Lease."""


@frozen
class ClientOptions:
    """The flags of every component that is a client of an API server."""

    kubeconfig: str | None = None
    context: str = ""
    bind_address: str = "127.0.0.1"  # of the health endpoints
    secure_port: int | None = None


@frozen
class ElectedOptions(ClientOptions):
    """The flags of a component of which one instance is active."""

    leader_elect: bool = True
    leader_elect_lease_duration: str = "15s"
    leader_elect_renew_deadline: str = "10s"
    leader_elect_retry_period: str = "2s"
    leader_elect_resource_name: str = ""
    leader_elect_resource_namespace: str = "kube-system"


@frozen
class ControllerManagerOptions(ElectedOptions):
    """The flags of `refk8s controller-manager`."""

    cluster_cidr: str | None = None
    service_cluster_ip_range: str = SERVICE_CIDR
    node_cidr_mask_size: int | None = None
    node_cidr_mask_size_ipv4: int | None = None
    node_cidr_mask_size_ipv6: int | None = None
    pki: str | None = None
    use_service_account_credentials: bool = False


@frozen
class SchedulerOptions(ElectedOptions):
    """The flags of `refk8s scheduler`."""

    config: str = ""


class Component:
    """The parts of one process: the client, and a driver for each machine."""

    def __init__(self, name: str, options: ClientOptions) -> None:
        from refk8s import __version__
        from refk8s.components.client.access import find_access
        from refk8s.components.client.http_api import HttpApi
        from refk8s.components.clock import Clock

        self.name = name
        self.is_ready = False  # all parts have been started
        self.is_stopping = False
        self.health: HealthServer | None = None
        self.clock = Clock()
        self.access = find_access(options.kubeconfig, options.context, os.environ)
        self.agent = f"{name}/v{__version__} (refk8s)"
        self.api: HttpApi = HttpApi(self.access, self.agent, self.clock)
        self.drivers: list[Driver] = []
        self._accounts: AccountApi | None = None
        self._shared: SharedApi | None = None
        self._bare: HttpApi | None = None
        self._learner: ServerLearner | None = None

    def serve_health(self, options: ClientOptions) -> None:
        """Serve /healthz and the like (PROC-6). Raises CannotRun."""
        from refk8s.components.exposition import exposition
        from refk8s.components.health_server import HealthServer

        is_tls = self.name in HTTPS_PORTS
        flag = "--secure-port" if is_tls else "--healthz-port"
        self.health = HealthServer(self.checks, lambda: exposition(self.metrics), is_tls)
        port = (HTTPS_PORTS | HTTP_PORTS)[self.name]
        self.health.start(options.bind_address, options.secure_port, port, flag)

    def checks(self) -> dict[str, str]:
        """What health is made of: readiness asks that every machine that acts has its lists."""
        states = [inner_state(driver.state) for driver in self.drivers]
        waiting = [state for state in states if isinstance(state, LoopState) and not state.synced]
        words = "not every resource has been listed" if waiting else ""
        return {"ping": "", "shutdown": "the process is stopping" if self.is_stopping else words}

    def metrics(self) -> Iterator[Any]:
        """The metrics that upstream has under these names."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        requests = CounterMetricFamily(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            labels=("code", "host", "method"),
        )
        host = self.api.server.partition("://")[2]
        for (code, method), count in sorted(self.api.answers.items()):
            requests.add_metric((code, host, method), count)
        yield requests
        depth = GaugeMetricFamily("workqueue_depth", "Keys that are due.", labels=("name",))
        leads = GaugeMetricFamily(
            "leader_election_master_status", "Whether this instance leads.", labels=("name",)
        )
        due = Counter[str]()  # of the nodes of this process together
        for driver in self.drivers:
            state = inner_state(driver.state)
            machine: Any = getattr(driver.machine, "inner", driver.machine)
            if isinstance(state, LoopState):
                due.update(dict.fromkeys(machine.reconcilers, 0))
                due.update(name for name, _ in state.due)
            if state is not driver.state:
                leads.add_metric((driver.machine.name,), 0 if state is None else 1)
        for name, count in sorted(due.items()):
            depth.add_metric((name,), count)
        yield depth
        yield leads

    def add(self, machine: Any, **adapters: Any) -> None:
        """Run this machine."""
        from refk8s.components.driver import Driver

        api = self._accounts or self._shared or self.api
        self.drivers.append(Driver(machine, api, self.clock, **adapters))

    def use_service_accounts(self) -> None:
        """Send the requests of controllers with the tokens of their service accounts (PROC-20)."""
        from refk8s.components.client.account_tokens import AccountApi, without_credentials
        from refk8s.components.client.http_api import HttpApi

        self._bare = HttpApi(without_credentials(self.access), self.agent, self.clock)
        self._accounts = AccountApi(self.api, self._bare, self.clock)

    def share_watches(self) -> None:
        """Let machines that are added after this share their watches (CLIENT-12)."""
        from refk8s.components.client.shared_api import SharedApi

        self._shared = SharedApi(self.api)

    def start(self, keep_servers: Callable[[tuple[str, ...]], None]) -> None:
        """Start the machines. `keep_servers`: stores learnt API servers (CLIENT-16)."""
        from refk8s.components.client.learning import ServerLearner

        for driver in self.drivers:
            driver.start()
        if may_learn(self.access.server, self.access.insecure):
            others = () if self._bare is None else (self._bare,)
            self._learner = ServerLearner(self.api, others, keep_servers)
            self._learner.start()

    async def stop(self) -> None:
        """Stop the machines; a leader releases its Lease."""
        self.is_stopping = True
        if self._learner is not None:
            self._learner.stop()
        await asyncio.gather(*(driver.finish(FINISH_SECONDS) for driver in self.drivers))

    async def close(self) -> None:
        """Close the connections."""
        if self.health is not None:
            await self.health.close()
        self.api.close()
        if self._bare is not None:
            self._bare.close()


def run_client(
    name: str,
    options: ClientOptions,
    prepare: Callable[[Component], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]],
    keep_servers: Callable[[tuple[str, ...]], None] = lambda servers: None,
) -> int:
    """Run a process until a signal. `prepare` adds the machines; it returns words for the ready
    line, and what is done after the machines have stopped. `keep_servers`: as of `Component`."""

    async def main(write_line: WriteLine, stop: asyncio.Event) -> None:
        component = Component(f"kube-{name}" if name != "kubelet" else name, options)
        after: Callable[[], Awaitable[None]] | None = None
        try:
            words, after = await prepare(component)
            component.serve_health(options)
            component.start(keep_servers)
            started()
            component.is_ready = True
            assert component.health is not None
            write_line(
                f"refk8s {name} is ready{words}: API server {component.api.server}, "
                f"health at {component.health.url}/healthz"
            )
            await stop.wait()
        finally:
            await component.stop()
            if after is not None:
                await after()
            await component.close()

    return run_process(main)


async def _nothing() -> None:
    """There is nothing to do after the machines have stopped."""


def run_controller_manager(options: ControllerManagerOptions) -> int:
    """Run `refk8s controller-manager` until a signal; returns the exit status. Raises CannotRun."""
    from refk8s.components.range_flags import pod_ranges, service_ranges

    ranges = pod_ranges(
        options.cluster_cidr,
        service_ranges(options.service_cluster_ip_range),
        options.node_cidr_mask_size,
        options.node_cidr_mask_size_ipv4,
        options.node_cidr_mask_size_ipv6,
    )

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.certificate_authority import check_authority, signing_authorities
        from refk8s.components.certificates import Pair
        from refk8s.core import components

        authorities = None
        if options.pki:
            pki = Path(options.pki).expanduser().absolute()
            authorities = signing_authorities(check_authority(Pair(pki / "ca.crt", pki / "ca.key")))
        machine = components.controller_manager(authority_of(component), ranges, authorities)
        if options.use_service_account_credentials:
            component.use_service_accounts()
        component.add(_elected(machine, options))
        return "", _nothing

    return run_client("controller-manager", options, prepare)


def run_scheduler(options: SchedulerOptions) -> int:
    """Run `refk8s scheduler` until a signal; returns the exit status. Raises CannotRun."""
    from refk8s.components.scheduler_file import read_scheduler_file, scheduler_parts
    from refk8s.core.scheduler_configuration.read import SchedulerConfiguration

    found = read_scheduler_file(options.config) if options.config else SchedulerConfiguration()
    options = _with_file(options, found)

    machine, adapters = scheduler_parts(found)

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        component.add(_elected(machine, options), **adapters)
        return "", _nothing

    return run_client("scheduler", options, prepare)


def _with_file(options: SchedulerOptions, found: "SchedulerConfiguration") -> SchedulerOptions:
    """The options, with what the file says where a flag has its default."""
    election, defaults = found.leader_election, SchedulerOptions()
    of_file: dict[str, Any] = {
        "kubeconfig": found.client_connection.kubeconfig or None,
        "leader_elect": election.leader_elect,
        "leader_elect_lease_duration": election.lease_duration,
        "leader_elect_renew_deadline": election.renew_deadline,
        "leader_elect_retry_period": election.retry_period,
        "leader_elect_resource_name": election.resource_name,
        "leader_elect_resource_namespace": election.resource_namespace,
    }
    changes = {
        name: value
        for name, value in of_file.items()
        if value not in (None, "") and getattr(options, name) == getattr(defaults, name)
    }
    return evolve(options, **changes)


def find_election(options: ElectedOptions, name: str) -> "ElectionConfig":
    """The Lease and the times of the flags `--leader-elect-...`; `name` is that of the component.
    Raises CannotRun (ELECT-11)."""
    from refk8s.components.options import parse_duration
    from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain
    from refk8s.core.context import SECOND
    from refk8s.core.loop.lease_lock import BadElection, ElectionConfig

    lease = options.leader_elect_resource_name or name
    namespace = options.leader_elect_resource_namespace
    if dns_subdomain(lease):
        raise CannotRun(f"--leader-elect-resource-name {lease!r}: not the name of a Lease")
    if dns_label(namespace):
        raise CannotRun(
            f"--leader-elect-resource-namespace {namespace!r}: not the name of a namespace"
        )
    times = []
    for flag in ("lease_duration", "renew_deadline", "retry_period"):
        text = getattr(options, f"leader_elect_{flag}")
        try:
            times.append(round(parse_duration(text) * SECOND))
        except ValueError:
            words = f"--leader-elect-{flag.replace('_', '-')} {text}"
            raise CannotRun(f"{words}: not a duration such as 15s or 1m30s") from None
    try:
        return ElectionConfig(lease, namespace, *times)
    except BadElection as error:
        raise CannotRun(
            f"--leader-elect-lease-duration {options.leader_elect_lease_duration}, --leader-elect-"
            f"renew-deadline {options.leader_elect_renew_deadline}, --leader-elect-retry-period "
            f"{options.leader_elect_retry_period}: {error}"
        ) from None


def _elected(machine: Any, options: ElectedOptions) -> Any:
    from refk8s.components.this_machine import hostname
    from refk8s.core.components import with_leader_election

    if not options.leader_elect:
        return machine
    return with_leader_election(machine, hostname(), find_election(options, machine.name))


def authority_of(component: Component) -> str:
    """The certificate of the cluster's authority, which pods get: that of the kubeconfig."""
    authority = component.access.authority
    content = authority.content or (Path(authority.path).read_bytes() if authority.path else b"")
    return content.decode()
