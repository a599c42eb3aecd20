"""Token secrets: Secrets with a token of a ServiceAccount, and the days on which they were used.
Rules SA-3, SA-5 to SA-8 (spec/workloads/service_account.md).

Source: Kubernetes documentation, "Managing Service Accounts" (manual Secret management; legacy
ServiceAccount token tracking and cleaner).
"""

import re
from datetime import date
from typing import Final

from refk8s.core.api.core_v1 import Secret, ServiceAccount
from refk8s.core.context import SECOND, Instant, parse_timestamp, timestamp

TOKEN_SECRET: Final = "kubernetes.io/service-account-token"
ACCOUNT_NAME: Final = "kubernetes.io/service-account.name"
ACCOUNT_UID: Final = "kubernetes.io/service-account.uid"

LAST_USED: Final = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE: Final = "kubernetes.io/legacy-token-invalid-since"

TRACKING_NAMESPACE: Final = "kube-system"
TRACKING_NAME: Final = "kube-apiserver-legacy-service-account-token-tracking"
TRACKING_KEY: Final = "since"

DAY: Final[Instant] = 86_400 * SECOND

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def day_of(now: Instant) -> str:
    """The day of an instant in UTC: 2026-11-30."""
    return timestamp(now)[:10]


def read_day(text: str | None) -> Instant | None:
    """The first instant of a day; None for a text that is no day."""
    if text is None or not _DAY.fullmatch(text):
        return None
    try:
        date.fromisoformat(text)
    except ValueError:
        return None
    return parse_timestamp(f"{text}T00:00:00Z")


def label_of(secret: Secret, label: str) -> str | None:
    """The value of a label of the Secret."""
    return (secret.metadata.labels or {}).get(label)


def is_generated(secret: Secret, account: ServiceAccount) -> bool:
    """Whether the Secret was made for the account by a controller, and not by a user: only then
    the account lists it."""
    return any(one.name == secret.metadata.name for one in account.secrets or ())
