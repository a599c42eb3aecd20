"""What the integration tests share: a host with a Docker engine, made once."""

from collections.abc import Iterator

import pytest
from docker_host import Host, missing_tools


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
