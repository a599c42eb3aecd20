"""Notes the uses of the tokens that Secrets have. Rule SA-6 (spec/workloads/service_account.md).

core/apiserver/legacy_tokens.py decides what a use is. The client is warned, and the day of the use
is written in the background.
"""

from refk8s.components.apiserver import ApiServer
from refk8s.components.apiserver_metrics import Meter
from refk8s.core.api.user import SERVICE_ACCOUNT_PREFIX, User
from refk8s.core.apiserver.authenticate import legacy_use_of
from refk8s.core.apiserver.http import WireRequest
from refk8s.core.apiserver.legacy_tokens import LegacyUse, recording


class TokenUses:
    """The uses at one API server."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._recording: set[str] = set()  # the Secrets whose use is being written

    def find(
        self, wire: WireRequest, user: User | None, certificate: User | None
    ) -> LegacyUse | None:
        """The use by this request. `user`: that of the request, None if it was refused;
        `certificate`: that of the connection's certificate, which takes precedence."""
        authorization = wire.headers.get("authorization", "")
        if not authorization or certificate is not None:
            return None
        if user is not None and not wire.impersonation and not _may_have_secret(user):
            return None  # nearly every request
        config, store = self._api.config, self._api.store
        return legacy_use_of(authorization, config, store, is_refused=user is None)

    def note(self, use: LegacyUse, meter: Meter) -> None:
        """Warn the client with the answer, and record the day."""
        meter.use = use
        request = recording(use, self._api.clock.now())
        if request is None or request.key in self._recording:
            return
        key = request.key
        self._recording.add(key)
        self._api.submit(request, lambda _: self._recording.discard(key), background=True)


def _may_have_secret(user: User) -> bool:
    """Whether this may be the user of a token that is not bound to a pod or node."""
    return user.name.startswith(SERVICE_ACCOUNT_PREFIX) and len(user.extra) <= 1
