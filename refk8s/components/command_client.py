"""A command that sends a few requests to an API server and ends."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from refk8s.components.files import CannotRun
from refk8s.core.api.request import Request

DEFAULT_KUBECONFIG = Path("~/.refk8s/kubeconfig")
"""The administrator's, as `refk8s run` writes it."""


class CommandClient:
    """The API server of a kubeconfig, for one command."""

    def __init__(self, access: Any) -> None:
        from refk8s import __version__
        from refk8s.components.client.http_api import HttpApi
        from refk8s.components.clock import Clock

        self.clock = Clock()
        self.api = HttpApi(access, f"refk8s/v{__version__}", self.clock)

    async def call(self, request: Request, *accepted: int) -> Any:
        """The object of the answer; None for a code that is `accepted`. Raises CannotRun."""
        response = await self.api.call(request)
        if response is None:
            raise CannotRun(
                f"the API server at {self.api.server} does not answer: check that it runs, "
                "and the server of the kubeconfig"
            )
        if response.ok:
            return response.body
        if response.code in accepted:
            return None
        raise CannotRun(f"the API server at {self.api.server} answers: {response.body.message}")


def run_command(
    kubeconfig: str | None, context: str, work: Callable[[CommandClient], Awaitable[None]]
) -> int:
    """Do this with the API server of the kubeconfig; returns the exit status. Raises CannotRun."""
    from refk8s.components.client.access import find_access

    usual = DEFAULT_KUBECONFIG.expanduser()
    if kubeconfig is None and not os.environ.get("KUBECONFIG") and usual.exists():
        kubeconfig = str(usual)
    access = find_access(kubeconfig, context, os.environ)
    logging.getLogger("refk8s").setLevel(logging.CRITICAL)  # a failure is the command's one line

    async def main() -> None:
        client = CommandClient(access)
        try:
            await work(client)
        finally:
            client.api.close()

    asyncio.run(main())
    return 0
