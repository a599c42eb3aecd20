"""The components besides the API server as processes of their own. Rules PROC-1, PROC-2, PROC-5
(spec/processes.md)."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from refk8s.components.process import Say, run_process, started

if TYPE_CHECKING:
    from refk8s.components.driver import Driver

FINISH_SECONDS = 5.0
"""How long a component that is stopped may take to release its Lease."""


@frozen
class ClientOptions:
    """The flags of every component that is a client of an API server."""

    kubeconfig: str | None = None
    context: str = ""


@frozen
class ElectedOptions(ClientOptions):
    """The flags of a component of which one instance is active."""

    leader_elect: bool = True


@frozen
class KubeletOptions(ClientOptions):
    """The flags of `refk8s kubelet`."""

    adapter: str = "auto"
    nodes: int | None = None
    root_dir: str | None = None
    keep: bool = False


class Component:
    """The parts of one process: the client, and a driver for each machine."""

    def __init__(self, name: str, options: ClientOptions) -> None:
        from refk8s import __version__
        from refk8s.components.client.access import find_access
        from refk8s.components.client.http_api import HttpApi
        from refk8s.components.clock import Clock

        self.clock = Clock()
        self.access = find_access(options.kubeconfig, options.context, os.environ)
        self.api: HttpApi = HttpApi(self.access, f"{name}/v{__version__} (refk8s)", self.clock)
        self.drivers: list[Driver] = []

    def add(self, machine: Any, **adapters: Any) -> None:
        """Run this machine."""
        from refk8s.components.driver import Driver

        self.drivers.append(Driver(machine, self.api, self.clock, **adapters))

    def start(self) -> None:
        """Start the machines."""
        for driver in self.drivers:
            driver.start()

    async def stop(self) -> None:
        """Stop the machines; a leader releases its Lease."""
        await asyncio.gather(*(driver.finish(FINISH_SECONDS) for driver in self.drivers))

    def close(self) -> None:
        """Close the connections."""
        self.api.close()


def _run(
    name: str,
    options: ClientOptions,
    prepare: Callable[[Component], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]],
) -> int:
    """Run a process until a signal. `prepare` adds the machines; it returns words for the ready
    line, and what is done after the machines have stopped."""

    async def main(say: Say, stop: asyncio.Event) -> None:
        component = Component(f"kube-{name}" if name != "kubelet" else name, options)
        after: Callable[[], Awaitable[None]] | None = None
        try:
            words, after = await prepare(component)
            component.start()
            started()
            say(f"refk8s {name} is ready{words}: API server {component.api.server}")
            await stop.wait()
        finally:
            await component.stop()
            if after is not None:
                await after()
            component.close()

    return run_process(main)


async def _nothing() -> None:
    """There is nothing to do after the machines have stopped."""


def run_controller_manager(options: ElectedOptions) -> int:
    """Run `refk8s controller-manager` until a signal; returns the exit status."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.core import components

        machine = components.controller_manager(_authority(component))
        component.add(_elected(machine, options))
        return "", _nothing

    return _run("controller-manager", options, prepare)


def run_scheduler(options: ElectedOptions) -> int:
    """Run `refk8s scheduler` until a signal; returns the exit status."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.core.scheduler.cycle import scheduler

        component.add(_elected(scheduler(), options))
        return "", _nothing

    return _run("scheduler", options, prepare)


def run_kubelet(options: KubeletOptions) -> int:
    """Run `refk8s kubelet` until a signal; returns the exit status."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.choose_nodes import choose_nodes
        from refk8s.core.kubelet.config import KubeletConfig
        from refk8s.core.kubelet.kubelet import kubelet

        root = Path(options.root_dir or "~/.refk8s/kubelet").expanduser().absolute()
        nodes = choose_nodes(options.adapter, options.nodes, root, component.clock)
        for node in nodes.start(""):
            component.add(kubelet(node.name, KubeletConfig()), runtime=node.runtime)

        async def close() -> None:
            await nodes.close(options.keep)

        return f" with {nodes.words}", close

    return _run("kubelet", options, prepare)


def _elected(machine: Any, options: ElectedOptions) -> Any:
    from refk8s.components.this_machine import hostname
    from refk8s.core.components import with_leader_election

    return with_leader_election(machine, hostname()) if options.leader_elect else machine


def _authority(component: Component) -> str:
    """The certificate of the cluster's authority, which pods get: that of the kubeconfig."""
    authority = component.access.authority
    content = authority.content or (Path(authority.path).read_bytes() if authority.path else b"")
    return content.decode()
