"""A process learns the API servers of its cluster while it is connected. Rule CLIENT-16
(spec/client.md)."""

from collections.abc import Callable, Sequence

from refk8s.components.client.http_api import HttpApi
from refk8s.components.periodic import Periodic
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import ENDPOINT_SLICES
from refk8s.core.client.servers import servers_of

ROUND_SECONDS = 60.0
RETRY_SECONDS = 10.0
SELECTOR = "kubernetes.io/service-name=kubernetes"


class ServerLearner(Periodic):
    """Reads the endpoints of default/kubernetes, and tells the clients of the process about
    them."""

    subject = "reading the endpoints of the API servers"

    def __init__(
        self, api: HttpApi, others: Sequence[HttpApi], keep: Callable[[tuple[str, ...]], None]
    ) -> None:
        """`others`: further clients of the same cluster. `keep`: stores new servers for the next
        start."""
        self._api, self._others, self._keep = api, others, keep
        self._learnt: tuple[str, ...] = ()

    async def round(self) -> float:
        options = Options(label_selector=SELECTOR)
        request = Request("list", ENDPOINT_SLICES, "default", options=options)
        response = await self._api.call(request)
        if response is None or response.code >= 500:
            return RETRY_SECONDS
        # a process that may not read them keeps the servers of its kubeconfig
        found = servers_of(response.body.items) if response.ok else ()
        if found and found != self._learnt:
            self._learnt = found
            for api in (self._api, *self._others):
                api.learn(found)
            self._keep(found)
        return ROUND_SECONDS
