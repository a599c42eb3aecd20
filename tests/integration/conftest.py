"""What the integration tests share: a host with a Docker engine, made once."""

import os
from collections.abc import Iterator

import pytest
from docker_host import Host, missing_tools


@pytest.fixture(scope="session")
def docker_host() -> Iterator[Host]:
    """A namespace with an engine. Where a tool is missing, the tests are skipped; in CI they fail."""
    missing = missing_tools()
    if missing:
        words = f"the Docker tests need {', '.join(missing)}"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    host = Host()
    try:
        host.start()
        yield host
    finally:
        host.stop()
