"""The time to live of keys, by leases of etcd. Rule ETCD-12 (spec/etcd.md)."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final

from refk8s.store.etcd.client import EtcdClient

REUSE_PART: Final = 0.05
REUSE_SECONDS_MAX: Final = 60
"""A lease is given to keys for this part of the time to live, at most so long. It lives longer by
as much, so no key expires too early."""

KEYS_MAX: Final = 1000
"""The keys of one lease: etcd deletes them in one transaction."""


class Leases:
    """Leases of one time to live, shared by the keys written within a minute."""

    def __init__(self, client: EtcdClient, seconds: float) -> None:
        self._client = client
        self._reuse = min(seconds * REUSE_PART, REUSE_SECONDS_MAX)
        self._seconds = ceil(seconds + self._reuse)
        self._lock = asyncio.Lock()
        self._lease = 0
        self._until = 0.0
        self._keys = 0

    def forget(self) -> None:
        """Grant a new lease for the next key, because a call failed and the lease may be gone."""
        self._until = 0.0

    async def take(self) -> int:
        """The lease for one more key. Raises as `EtcdClient.grant`."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now >= self._until or self._keys >= KEYS_MAX:
                self._lease = await self._client.grant(self._seconds)
                self._until, self._keys = now + self._reuse, 0
            self._keys += 1
            return self._lease
