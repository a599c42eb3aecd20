"""One of several servers compacts etcd. Rule ETCD-11 (spec/etcd.md).

Each server takes part in a round every five minutes. A round is a transaction on the key
`compact_rev_key`, whose version counts the rounds. The first server in a round compacts etcd at the
revision of its own previous round. So a revision stays readable for one to two intervals.
Upstream's API server does the same with the same key, so both can run on one etcd.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from refk8s.core.store import Revision
from refk8s.core.store_port import StoreUnavailable, StoreUnknown, TxnRefused
from refk8s.store.etcd.client import EtcdClient
from refk8s.store.etcd.messages import EQUAL, VERSION, RangeRequest, TxnRequest

log = logging.getLogger("refk8s")

KEY: Final = b"compact_rev_key"
COMPACT_SECONDS: Final = 300.0


class Compactor:
    """Takes part in the rounds of compaction."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._round = 0
        self._revision: Revision = 0

    async def run(self) -> None:
        """One round after the other, until cancelled."""
        while True:
            await asyncio.sleep(COMPACT_SECONDS)
            try:
                await self.compact_once()
            except (StoreUnavailable, StoreUnknown, TxnRefused) as error:
                log.error("etcd cannot be compacted: %s", error)

    async def compact_once(self) -> bool:
        """Take part in one round; whether this server was the one that compacted."""
        answer = await self._client.txn(self._request())
        revision = int(answer.header.revision)
        if not answer.succeeded:  # another server was faster
            kvs = answer.responses[0].response_range.kvs
            self._round = int(kvs[0].version) if kvs else 0
            self._revision = revision
            return False
        self._round += 1
        before, self._revision = self._revision, revision
        if before == 0:
            return False
        await self._client.compact(before)
        return True

    def _request(self) -> Any:
        request = TxnRequest()
        request.compare.add(result=EQUAL, target=VERSION, key=KEY, version=self._round)
        put = request.success.add().request_put
        put.key, put.value = KEY, str(self._revision).encode()
        request.failure.add().request_range.key = KEY
        return request


async def oldest_revision(client: EtcdClient) -> Revision:
    """The revision of the last compaction, whose state can still be read; 0 if there was none."""
    kvs = (await client.range(RangeRequest(key=KEY))).kvs
    text = bytes(kvs[0].value) if kvs else b""
    return int(text) if text.isdigit() and len(text) < 19 else 0
