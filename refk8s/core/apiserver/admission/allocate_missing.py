"""Records of what a service holds, if another API server has not made them. Rule ALLOC-10
(spec/admission.md)."""

from __future__ import annotations

from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.families import family_of
from refk8s.core.apiserver.admission.allocate import held_keys
from refk8s.core.apiserver.admission.cluster_ips import IP_LABELS
from refk8s.core.apiserver.admission.ledger import Ledger
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.store import Compare, Record, Txn


def allocate_missing(
    record: Record[Any], store: Reader, context: Context, config: AdmissionConfig
) -> Txn[Any] | None:
    """The transaction that allocates what the service of this record holds without a record of it;
    None if nothing is missing."""
    service = record.value
    ledger = Ledger(service, store, context, config)
    for key in held_keys(service.spec):
        if ledger.is_free(key):
            name = key.rpartition("/")[2]
            ledger.allocate(key, name, IP_LABELS[family_of(name)] if _is_address(key) else None)
    if not ledger.writes:
        return None
    condition = Compare(record.key, record.mod_revision)  # so that the service still holds it
    return Txn((condition, *ledger.compares), tuple(ledger.writes))


def _is_address(key: str) -> bool:
    return key.startswith(resources.IP_ADDRESSES.prefix)
