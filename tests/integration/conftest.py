"""What the integration tests share: a host with a Docker engine, and three of them, each made once;
a node with pods and a client, for each file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import Host, missing_tools
from docker_nodes import DockerNodes
from net_world import World, needs_kernel_rules
from process_world import Process, Start


@pytest.fixture(scope="session")
def docker_host() -> Iterator[Host]:
    """A namespace with an engine. Where a tool is missing, the tests fail and name it."""
    missing = missing_tools()
    if missing:
        pytest.fail(f"the Docker tests need {', '.join(missing)}")
    host = Host()
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="session")
def docker_nodes() -> Iterator[DockerNodes]:
    """Three nodes with an engine each, on one link."""
    missing = missing_tools()
    if missing:
        pytest.fail(f"the Docker tests need {', '.join(missing)}")
    with DockerNodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A node with three pods, and a client, in network namespaces."""
    needs_kernel_rules()
    world = World()
    yield world
    world.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Start]:
    """Makes processes, which are killed at the end."""
    made: list[Process] = []

    def make(name: str, *arguments: str) -> Process:
        made.append(Process(tmp_path, name, *arguments))
        return made[-1]

    yield make
    for process in made:
        if hasattr(process, "process") and process.process.poll() is None:
            process.kill()
