"""The configuration of one API server: its key for tokens, its users, its authorizer and its
admission plugins. Rules API-13, API-15, API-16."""

from collections.abc import Callable, Container, Mapping
from typing import Final, Protocol

from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.oidc.issuers import Anonymous, Trusted
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.token_key import PublicKey, RsaKey, TokenKey
from refk8s.core.apiserver.token_webhook import ReviewedTokens
from refk8s.core.value import Value, field

TEST_KEY: Final = RsaKey(
    p=101402628834225542234238117639832549262060538178373027534501833011942772434781,
    q=106120685253266813644376167414603136550518703637353323082256951950028664619221,
    exponent=65537,
    private_exponent=int(
        "8114568737853111006636837742908298491168730315345212833413226499415300990778"
        "168274201069350336104213558988801845783499072804914309237263705733327467729473"
    ),
)
"""A public key, for tests and simulations, which have no clients. A running cluster has its own."""


class Attributes(Value, frozen=True):
    """The attributes of a request that authorizers use. `path` is set if the request is not for a
    resource. `fields` and `labels`: the selectors of a list, watch or deletecollection."""

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    labels: str = ""
    version: str = ""


class Decision(Value, frozen=True):
    """What an authorizer says of a request, and why, if it has a reason. An authorizer that does
    not allow a request has no opinion: another one may allow it (AUTHZ-1), unless `is_denied`.
    `problem`: why a webhook could not be asked (AUTHZ-11)."""

    allowed: bool
    reason: str = ""
    is_denied: bool = False
    problem: str = ""


ALLOWED: Final = Decision(True)
NO_OPINION: Final = Decision(False)


class UserRules(Value, frozen=True):
    """The rules that apply to a user in a namespace. `problems`: roles that a binding names and
    that do not exist."""

    rules: tuple[PolicyRule, ...] = ()
    problems: tuple[str, ...] = ()


class Roles(Protocol):
    """The roles of users, for reviews (AUTHZ-5)."""

    def rules_of(self, user: User, namespace: str, store: Reader) -> UserRules:
        """The rules that apply to the user: those of the whole cluster, and in this namespace."""


class Config(Value, frozen=True):
    """The configuration of this API server: the key that signs tokens, its issuer name and default
    audiences; the configured tokens; the authorizer; and the ranges of service addresses and ports.

    `sign` signs with `token_key`, and `verify` returns whether (data, signature) match. Without
    them, in tests and simulations, the plain arithmetic of an RSA key is used. `authorizer` decides
    whether the user may do this on this state of the store; without it, every authenticated user
    may do everything (API-13). `roles`: the roles of users, if RBAC is one of the authorizers.
    """

    token_key: TokenKey = TEST_KEY
    sign: Callable[[bytes], bytes] | None = None
    verify: Callable[[bytes, bytes], bool] | None = None
    earlier_keys: tuple[PublicKey, ...] = ()  # those of tokens that were signed before (HTTP-30)
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    users: Mapping[str, User] = field(default_factory=dict)
    authorizer: Callable[[Attributes, Reader], Decision] | None = None
    has_metrics: bool = False  # whether kubelets can be asked for the use of resources
    # components of the same process, which run while it does (DISC-17)
    components: tuple[str, ...] = ()
    roles: Roles | None = None
    modes: tuple[str, ...] = ("Node", "RBAC")  # those of the authorizers, in their order
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    issuers: Mapping[str, Trusted] = field(default_factory=dict)  # by URL (OIDC-1)
    webhook: ReviewedTokens | None = None  # OIDC-7
    anonymous: Anonymous = field(default_factory=Anonymous)  # OIDC-6
    stale: Container[str] = frozenset()  # keys of objects that are to be stored anew (CRYPT-4)


DEFAULT_CONFIG = Config()
