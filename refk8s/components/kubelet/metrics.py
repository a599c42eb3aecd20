"""Answers requests for metrics.k8s.io: asks the kubelets of the nodes that the answer needs. Rule
STREAM-17.

Nothing is measured while no request comes. A summary is kept for some seconds, so clients that poll
cause at most one request to each kubelet in that time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from refk8s.components.apiserver import INTERNAL, Answer, ApiServer
from refk8s.components.kubelet.stats import Stats
from refk8s.core.api.core_v1 import Node
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import metrics
from refk8s.core.client.summary import Summary
from refk8s.core.ports import StreamFailed

if TYPE_CHECKING:
    from refk8s.components.kubelet.remote import RemoteKubelet

log = logging.getLogger("refk8s")

KEPT_SECONDS = 5.0
ASKED_AT_A_TIME = 16
SECONDS_MAX = 10.0
"""How long an answer may take. Nodes that have not answered by then are left out."""
SUMMARY_BYTES_MAX = 4 << 20


class Metrics:
    """The metrics of all nodes, those of this process (`local`) and others."""

    def __init__(
        self,
        api: ApiServer,
        local: Mapping[str, Stats],
        find_remote: "Callable[[Node], Awaitable[RemoteKubelet]]",
    ) -> None:
        self._api = api
        self._local = local
        self._find_remote = find_remote
        self._loop = asyncio.get_running_loop()
        self._kept: dict[str, tuple[float, Summary | None]] = {}
        self._asking: dict[str, asyncio.Task[Summary | None]] = {}
        self._free = asyncio.Semaphore(ASKED_AT_A_TIME)
        self._answering: set[asyncio.Task[None]] = set()

    def submit(self, request: Request, answer: Answer) -> None:
        """Answer a request that `handle` has passed on."""
        task = self._loop.create_task(self._submit(request, answer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _submit(self, request: Request, answer: Answer) -> None:
        try:
            response = await self._respond(request)
        except ApiError as error:
            response = Response(error.status.code or 500, error.status)
        except Exception:
            log.exception("metrics could not be read")
            response = INTERNAL
        answer(response)

    async def _respond(self, request: Request) -> Response:
        store, now = self._api.store, self._loop.time()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now}
        names = metrics.nodes_of(request, store)
        tasks = {name: self._summary(name) for name in names}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_MAX):
                await asyncio.gather(*(asyncio.shield(task) for task in tasks.values()))
        found = {
            name: summary
            for name, task in tasks.items()
            if task.done() and (summary := task.result()) is not None
        }
        return metrics.respond(request, store, found)

    def _summary(self, name: str) -> "asyncio.Task[Summary | None]":
        """The summary of a node; several requests share one question."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = self._loop.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return task

    async def _ask(self, name: str) -> Summary | None:
        until, summary = self._kept.get(name, (0.0, None))
        if self._loop.time() < until:
            return summary
        async with self._free:
            try:
                summary = await self._read(name)
            except (StreamFailed, OSError, ApiError, msgspec.MsgspecError) as error:
                log.debug("node %s has no metrics: %s", name, error)
                summary = None
        self._kept[name] = (self._loop.time() + KEPT_SECONDS, summary)
        return summary

    async def _read(self, name: str) -> Summary | None:
        if (local := self._local.get(name)) is not None:
            return await local.summary()
        record = self._api.store.get(NODES.key("", name))
        if record is None:
            return None
        kubelet = await self._find_remote(record.value)
        async with asyncio.timeout(SECONDS_MAX):
            answer = await kubelet.get("/stats/summary")
            content = await answer.read(SUMMARY_BYTES_MAX)
        if answer.code != 200:
            raise StreamFailed(f"its kubelet answers {answer.code}")
        return msgspec.json.decode(content, type=Summary)
