"""How much history a store keeps. Rules STORE-29 (spec/store.md), ETCD-15 (spec/etcd.md).

Time alone does not bound it: the faster a cluster is written to, the more there is in a minute.
"""

from typing import Final

HISTORY_CHANGES_MAX: Final = 50_000
"""The most changes in the history of a store."""

HISTORY_BYTES_MAX: Final = 64 << 20
"""The most bytes of encoded values in these changes. In memory an object takes about three times as
much."""

KEPT_PART: Final = 0.9
"""The part of these bounds that is kept when they are exceeded, so that the oldest changes are
discarded many at a time."""
