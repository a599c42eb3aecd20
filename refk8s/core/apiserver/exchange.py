"""The input of the stages: one request with everything that a stage may read."""

from refk8s.core.api.request import Request
from refk8s.core.apiserver.calls import Calls
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.value import Value, field


class Notes:
    """What stages of one decision note besides its outcome: warnings for the client, and
    annotations of its audit event."""

    __slots__ = ("annotations", "warnings")

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.annotations: dict[str, str] = {}

    def clear(self) -> None:
        """Forget everything: the decision begins again."""
        self.warnings.clear()
        self.annotations.clear()


class Exchange(Value, frozen=True, eq=False):
    """A request, the state of the store on which it is decided, the time and random values of the
    decision, and the API server's configuration. `calls`: those to other servers, if the request
    needs some. `is_admitted`: webhooks and policies have been asked about the request of which this
    write is a part. `notes`: what the stages note."""

    request: Request
    store: Reader
    context: Context
    config: Config = DEFAULT_CONFIG
    calls: Calls | None = None
    is_admitted: bool = False
    notes: Notes = field(default_factory=Notes)
