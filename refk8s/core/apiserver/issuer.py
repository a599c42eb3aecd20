"""The issuer's documents, by which other programs verify tokens of service accounts. Rule HTTP-19.

Source: Kubernetes documentation, "Managing Service Accounts" (Service account issuer discovery);
OpenID Connect Discovery 1.0.
"""

from refk8s.core.api.codec import encode
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.respond import Reply
from refk8s.core.apiserver.token_key import algorithm, key_set

CONFIGURATION, KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
ISSUER_PATHS = (CONFIGURATION, KEYS)


def issuer_document(path: str, config: Config) -> Reply | None:
    """The document at this path; None if there is none."""
    if path == CONFIGURATION:
        tree = {
            "issuer": config.issuer,
            "jwks_uri": config.issuer.rstrip("/") + KEYS,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": _algorithms(config),
        }
        return Reply(200, encode(tree), cache="public, max-age=3600")
    if path == KEYS:
        return Reply(
            200,
            encode(key_set(config.token_key, config.earlier_keys)),
            "application/jwk-set+json",
            cache="public, max-age=3600",
        )
    return None


def _algorithms(config: Config) -> list[str]:
    """How tokens that are valid may be signed."""
    own = algorithm(config.token_key)
    return list(dict.fromkeys([own, *[one.algorithm for one in config.earlier_keys]]))
