"""Reads an AuthenticationConfiguration, and the flags for one issuer. Rules OIDC-1, OIDC-6
(spec/oidc.md).

Whatever cannot be enforced is refused, with the field and the reason. Source: Kubernetes
documentation, "Authenticating" (Configuring the API Server; Using Authentication Configuration);
API reference, "kube-apiserver Configuration (v1)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from refk8s.core.apiserver.configuration_part import BadConfiguration, Part
from refk8s.core.apiserver.oidc.issuers import ALGORITHMS, Anonymous, Attribute, Issuer, Rule
from refk8s.core.cel.check import CelTypeError, check
from refk8s.core.cel.syntax import CelSyntaxError, Node, parse
from refk8s.core.cel.types import BOOL, DYN, STRING, Type, list_of, map_of
from refk8s.core.value import Value

API_VERSIONS: Final = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")
KIND: Final = "AuthenticationConfiguration"
ISSUERS_MAX: Final = 64

_CLAIMS: Final = {"claims": map_of(STRING, DYN)}
_USER: Final = {
    "user": Type(
        "kubernetes.UserInfo",
        fields={
            "username": STRING,
            "uid": STRING,
            "groups": list_of(STRING),
            "extra": map_of(STRING, list_of(STRING)),
        },
    )
}


class Configuration(Value, frozen=True):
    """The issuers, and who may be anonymous."""

    issuers: tuple[Issuer, ...] = ()
    anonymous: Anonymous = Anonymous()


def compiled(text: str) -> Node:
    """The tree of an expression that was checked when the configuration was read."""
    return _parsed(text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Node:
    return parse(text)


# --- a file


def read_configuration(tree: Any) -> Configuration:
    """The configuration of a document. Raises BadConfiguration."""
    whole = Part(tree, "")
    if whole.text("apiVersion") not in API_VERSIONS or whole.text("kind") != KIND:
        raise BadConfiguration(f"must be of kind {KIND}, {API_VERSIONS[0]}")
    issuers = tuple([_read_issuer(one) for one in whole.parts("jwt")])
    if len(issuers) > ISSUERS_MAX:
        raise BadConfiguration(f"jwt: must have at most {ISSUERS_MAX} items")
    urls = [one.url for one in issuers]
    for place, url in enumerate(urls):
        if url in urls[:place]:
            raise BadConfiguration(f'jwt[{place}].issuer.url: Duplicate value: "{url}"')
    anonymous = Anonymous()
    if (part := whole.part("anonymous")) is not None:
        paths = tuple([one.required("path") for one in part.parts("conditions")])
        anonymous = Anonymous(part.flag("enabled"), paths)
        if paths and not anonymous.is_enabled:
            raise BadConfiguration(
                "anonymous.conditions: enabled should be set to true when conditions are defined"
            )
        part.close()
    whole.close("apiVersion", "kind")
    return Configuration(issuers, anonymous)


def _read_issuer(part: Part) -> Issuer:
    where = part.part("issuer") or part.missing("issuer")
    url = _https(where.required("url"), f"{where.at}.url")
    discovery = where.text("discoveryURL")
    if discovery:
        _https(discovery, f"{where.at}.discoveryURL")
        if discovery.rstrip("/") == url.rstrip("/"):
            raise BadConfiguration(f"{where.at}.discoveryURL: must be different from url")
    audiences = where.texts("audiences")
    if not audiences:
        raise BadConfiguration(f"{where.at}.audiences: Required value")
    policy = where.text("audienceMatchPolicy")
    if policy not in ("", "MatchAny") or (len(audiences) > 1 and not policy):
        raise BadConfiguration(
            f"{where.at}.audienceMatchPolicy: must be MatchAny for multiple audiences"
        )
    authority = where.text("certificateAuthority")
    where.close()
    required, rules = _read_claim_rules(part)
    mappings = part.part("claimMappings") or part.missing("claimMappings")
    username = _read_attribute(mappings, "username", STRING, has_prefix=True, is_required=True)
    groups = _read_attribute(mappings, "groups", list_of(STRING), has_prefix=True)
    uid = _read_attribute(mappings, "uid", STRING)
    extra = _read_extra(mappings)
    mappings.close()
    user_rules = tuple([_read_rule(one, _USER) for one in part.parts("userValidationRules")])
    part.close()
    _check_email(username, part.at, (*rules, *user_rules), extra)
    return Issuer(
        url, audiences, username, groups, uid, extra, required, rules, user_rules,
        discovery=discovery, authority=authority,
    )  # fmt: skip


def _read_claim_rules(part: Part) -> tuple[tuple[tuple[str, str], ...], tuple[Rule, ...]]:
    """The claims with required values, and the rules with expressions."""
    required: list[tuple[str, str]] = []
    rules: list[Rule] = []
    for one in part.parts("claimValidationRules"):
        claim, expression = one.text("claim"), one.text("expression")
        if bool(claim) == bool(expression):
            raise BadConfiguration(f"{one.at}: must have either claim or expression")
        if claim:
            required.append((claim, one.text("requiredValue")))
            one.close()
        else:
            rules.append(_read_rule(one, _CLAIMS))
    return tuple(required), tuple(rules)


def _read_rule(part: Part, types: Mapping[str, Type]) -> Rule:
    text = part.required("expression")
    _compile(text, types, BOOL, f"{part.at}.expression")
    rule = Rule(text, part.text("message"))
    part.close()
    return rule


def _read_attribute(
    mappings: Part, name: str, wanted: Type, *, has_prefix: bool = False, is_required: bool = False
) -> Attribute:
    part = mappings.part(name)
    if part is None:
        if is_required:
            raise BadConfiguration(f"{mappings.at}.{name}: claim or expression is required")
        return Attribute()
    claim, expression = part.text("claim"), part.text("expression")
    has_own_prefix = has_prefix and part.has("prefix")
    prefix = part.text("prefix") if has_prefix else ""
    if bool(claim) == bool(expression):
        raise BadConfiguration(f"{part.at}: must have either claim or expression")
    if expression and has_own_prefix:
        raise BadConfiguration(f"{part.at}.prefix: cannot be set with an expression")
    if claim and has_prefix and not has_own_prefix:
        raise BadConfiguration(f"{part.at}.prefix: required with a claim; may be the empty text")
    if expression:
        _compile(expression, _CLAIMS, wanted, f"{part.at}.expression")
    part.close()
    return Attribute(claim, prefix, expression)


def _read_extra(mappings: Part) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for one in mappings.parts("extra"):
        key, expression = one.required("key"), one.required("valueExpression")
        if key != key.lower() or "/" not in key:
            raise BadConfiguration(f"{one.at}.key: must be a lowercase domain-prefix path")
        if key in [known for known, _ in found]:
            raise BadConfiguration(f'{one.at}.key: Duplicate value: "{key}"')
        _compile(expression, _CLAIMS, DYN, f"{one.at}.valueExpression")
        one.close()
        found.append((key, expression))
    return tuple(found)


def _check_email(
    username: Attribute, at: str, rules: Sequence[Rule], extra: Sequence[tuple[str, str]]
) -> None:
    """An expression that takes the email as user name must look whether it was verified."""
    if "claims.email" not in username.expression:
        return
    texts = [username.expression, *[rule.expression for rule in rules], *[one for _, one in extra]]
    if not any("email_verified" in text for text in texts):
        words = "claims.email_verified must be used if the username is claims.email"
        raise BadConfiguration(f"{at}.claimMappings.username.expression: {words}")


def _compile(text: str, types: Mapping[str, Type], wanted: Type, at: str) -> None:
    try:
        found = check(_parsed(text), types, text).type
    except (CelSyntaxError, CelTypeError) as error:
        raise BadConfiguration(f"{at}: compilation failed: {error}") from None
    if not wanted.is_dyn and not found.is_dyn and found.name not in (wanted.name, STRING.name):
        raise BadConfiguration(f"{at}: must evaluate to {wanted} but got {found}")
    if wanted == BOOL and found != BOOL:
        raise BadConfiguration(f"{at}: must evaluate to bool but got {found}")


def _https(url: str, at: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadConfiguration(f"{at}: not a URL: {url}") from None
    if parts.scheme != "https" or not parts.hostname:
        raise BadConfiguration(f"{at}: URL scheme must be https: {url}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadConfiguration(f"{at}: must not have a user, query or fragment: {url}")
    return url


# --- flags


def issuer_of_flags(
    url: str,
    client_id: str,
    username_claim: str = "sub",
    username_prefix: str = "",
    groups_claim: str = "",
    groups_prefix: str = "",
    required: Sequence[str] = (),
    algorithms: Sequence[str] = ("RS256",),
    authority: str = "",
) -> Issuer:
    """The issuer of the flags --oidc-*. Without a prefix, a user name that is no email gets the
    issuer as prefix, and `-` stands for none. Raises BadConfiguration, which names the flag."""
    _https(url, "--oidc-issuer-url")
    if not client_id:
        raise BadConfiguration("--oidc-client-id: required with --oidc-issuer-url")
    for one in algorithms:
        if one not in ALGORITHMS:
            raise BadConfiguration(
                f"--oidc-signing-algs: not one of {', '.join(ALGORITHMS)}: {one}"
            )
    pairs: list[tuple[str, str]] = []
    for text in required:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BadConfiguration(f"--oidc-required-claim: not NAME=VALUE: {text}")
        pairs.append((name, value))
    prefix = username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and username_claim != "email":
        prefix = f"{url}#"
    return Issuer(
        url,
        (client_id,),
        Attribute(username_claim, prefix),
        Attribute(groups_claim, groups_prefix) if groups_claim else Attribute(),
        required=tuple(pairs),
        algorithms=tuple(algorithms),
        authority=authority,
    )
