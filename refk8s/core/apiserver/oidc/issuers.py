"""An issuer of tokens, and what its tokens must have. Rules OIDC-1, OIDC-3 (spec/oidc.md).

Source: Kubernetes documentation, "Authenticating" (Using Authentication Configuration).
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from refk8s.core.value import Value

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
)  # fmt: skip
"""The signing algorithms that can be used: asymmetric ones."""

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


class Attribute(Value, frozen=True):
    """Where an attribute of the user comes from: a claim, before whose value the prefix is put, or
    an expression of `claims`. Both are empty if the user does not get it."""

    claim: str = ""
    prefix: str = ""
    expression: str = ""


class Rule(Value, frozen=True):
    """An expression that must be true, and the words if it is not."""

    expression: str
    message: str = ""


class Issuer(Value, frozen=True):
    """One issuer. `required`: claims with the values that they must have. `rules` are about the
    `claims`, `user_rules` about the `user`. `authority`: PEM certificates that its server is
    verified with; empty for those of the system."""

    url: str
    audiences: tuple[str, ...]
    username: Attribute
    groups: Attribute = Attribute()
    uid: Attribute = Attribute()
    extra: tuple[tuple[str, str], ...] = ()
    required: tuple[tuple[str, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()
    algorithms: tuple[str, ...] = ALGORITHMS
    discovery: str = ""
    authority: str = ""

    @property
    def discovery_url(self) -> str:
        """Where the issuer says where its keys are."""
        return self.discovery or self.url.rstrip("/") + DISCOVERY_PATH


class Anonymous(Value, frozen=True):
    """Whether requests without credentials are those of system:anonymous: everywhere, or, if
    there are `paths`, only there."""

    is_enabled: bool = True
    paths: tuple[str, ...] = ()

    def may(self, path: str) -> bool:
        """Whether a request for this path may be anonymous."""
        return self.is_enabled and (not self.paths or path in self.paths)


class Keys(Protocol):
    """The keys of an issuer."""

    def is_signed(self, header: Mapping[str, Any], data: bytes, signature: bytes) -> bool:
        """Whether a key of the issuer has signed these bytes, by the algorithm of the header."""


class Trusted(Value, frozen=True, eq=False):
    """An issuer with its keys."""

    issuer: Issuer
    keys: Keys
