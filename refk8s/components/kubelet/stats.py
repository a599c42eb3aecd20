"""The measurements of one node: taken when they are asked for, and kept for a short time. Rule
STREAM-17."""

import asyncio
from collections.abc import Callable, Mapping

from refk8s.core.api.core_v1 import Pod
from refk8s.core.client.summary import Summary
from refk8s.core.context import SECOND, Instant
from refk8s.core.kubelet.usage import compute_summary
from refk8s.core.ports import Containers, Usage

KEPT = 2 * SECOND
"""A summary is used for so long."""
BASE_MAX = 120 * SECOND
"""A measurement is no base of a rate after so long."""
FIRST_SECONDS = 1.0
"""The window of the first rate."""


class Stats:
    """What one node uses. A rate needs two measurements: the last one, or one second before."""

    def __init__(
        self,
        node: str,
        containers: Containers,
        pods: Callable[[], Mapping[str, Pod]],
        now: Callable[[], Instant],
    ) -> None:
        self._node = node
        self._containers = containers
        self._pods = pods
        self._now = now
        self._last: Usage | None = None
        self._summary: Summary | None = None
        self._measuring = asyncio.Lock()

    async def summary(self) -> Summary:
        """The summary, at most two seconds old. Raises StreamFailed."""
        async with self._measuring:
            last = self._last
            if self._summary is not None and last is not None and self._is_new(last, KEPT):
                return self._summary
            pods = {pod.metadata.uid or "": pod for pod in self._pods().values()}
            usage = await self._containers.usage(pods)
            if usage.cpu_nanocores < 0 and (last is None or not self._is_new(last, BASE_MAX)):
                last = usage
                await asyncio.sleep(FIRST_SECONDS)
                usage = await self._containers.usage(pods)
            self._last = usage
            self._summary = compute_summary(self._node, pods.values(), last, usage)
            return self._summary

    def _is_new(self, usage: Usage, within: Instant) -> bool:
        return 0 <= self._now() - usage.at <= within
