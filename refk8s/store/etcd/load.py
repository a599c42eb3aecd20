"""Reads the state from etcd at the start. Rules ETCD-13, ETCD-14 (spec/etcd.md)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final, TypeVar

from refk8s.core.store import Stamp
from refk8s.store.errors import OtherCluster
from refk8s.store.etcd.client import EtcdClient, RevisionCompacted
from refk8s.store.etcd.compaction import oldest_revision
from refk8s.store.etcd.keys import Keys
from refk8s.store.etcd.messages import EQUAL, MOD, RangeRequest, TxnRequest
from refk8s.store.etcd.mirror import Mirror

V = TypeVar("V")

PAGE_KEYS: Final = 1000
"""The keys of one page when the state is read."""

HISTORY_MAX: Final = 50_000
"""The most revisions before the present one that a start reads the changes of."""


async def identify(client: EtcdClient, keys: Keys, cluster_id: str | None) -> str:
    """The id of the cluster whose state this is. If there is none yet, `cluster_id` is written, or
    a new one. Raises OtherCluster if the id is not `cluster_id`."""
    new = cluster_id or str(uuid.uuid4())
    request = TxnRequest()
    request.compare.add(result=EQUAL, target=MOD, key=keys.cluster)
    put = request.success.add().request_put
    put.key, put.value = keys.cluster, new.encode()
    request.failure.add().request_range.key = keys.cluster
    answer = await client.txn(request)
    if answer.succeeded:
        return new
    found = bytes(answer.responses[0].response_range.kvs[0].value).decode(errors="replace")
    if cluster_id not in (None, found):
        raise OtherCluster(
            f"store etcd://{client.endpoint}: belongs to cluster {found}, not {cluster_id}; "
            "use another prefix or that cluster"
        )
    return found


async def load(
    client: EtcdClient,
    keys: Keys,
    encode: Callable[[V], bytes],
    decode: Callable[[str, bytes], V],
    stamp: Stamp[V],
) -> Mirror[V]:
    """The state at the oldest revision that a watch can begin at, or at the present one."""
    present = int((await client.range(RangeRequest(key=keys.progress))).header.revision)
    oldest = await oldest_revision(client)
    if max(1, present - HISTORY_MAX) <= oldest <= present:
        try:
            return await _load_at(client, Mirror(keys, encode, decode, stamp, oldest))
        except RevisionCompacted:
            pass  # meanwhile, or by another program than an API server
    return await _load_at(client, Mirror(keys, encode, decode, stamp, present))


async def _load_at(client: EtcdClient, mirror: Mirror[V]) -> Mirror[V]:
    """Fill the mirror with the state at its revision."""
    keys = mirror.keys
    key, more = keys.prefix, True
    while more:
        page = await client.range(
            RangeRequest(key=key, range_end=keys.end, limit=PAGE_KEYS, revision=mirror.start)
        )
        mirror.fill(page.kvs)
        more = page.more and len(page.kvs) > 0
        if more:
            key = bytes(page.kvs[-1].key) + b"\0"
    mirror.filled()
    return mirror
