"""Where a webhook is reached: its URL, or its service. Rule HOOK-3 (spec/webhooks.md).

Source: Kubernetes documentation, "Dynamic Admission Control" (Contacting the webhook).
"""

import re
from typing import Any, Final

from refk8s.core.apiserver.validation.field import Causes, invalid, malformed, required
from refk8s.core.apiserver.validation.names import dns_label_1035, dns_subdomain

REVIEW_VERSIONS = ("v1", "v1beta1")
"""The versions of a review that a webhook may name, of which v1 is sent."""
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_FORM = "; desired format: https://host[/path]"


def check_webhook_client(client: Any, at: str) -> Causes:
    """Exactly one of url and service, and what it needs."""
    if (client.url is None) == (client.service is None):
        return [required(at, "exactly one of url or service is required")]
    if client.url is not None:
        return check_webhook_url(client.url, f"{at}.url")
    return check_webhook_service(client.service, f"{at}.service")


def validate_review_versions(versions: tuple[str, ...], at: str) -> Causes:
    """Versions of a review: at least one that the API server knows, each once."""
    causes: Causes = []
    for place, version in enumerate(versions):
        if version in versions[:place]:
            causes.append(invalid(f"{at}[{place}]", version, "duplicate version"))
        else:
            causes += malformed(f"{at}[{place}]", version, dns_label_1035)
    if not any(version in REVIEW_VERSIONS for version in versions):
        words = f"must include at least one of {', '.join(REVIEW_VERSIONS)}"
        causes.append(invalid(at, list(versions), words))
    return causes


def check_webhook_url(url: str, at: str) -> Causes:
    """An https URL with a host, and without user, fragment and query."""
    from urllib.parse import urlsplit

    if escape := _BAD_ESCAPE.search(url):
        words = f'parse "{url}": invalid URL escape "{escape[0]}"'
        return [required(at, f"url must be a valid URL: {words}{_FORM}")]
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return [required(at, f"url must be a valid URL: {error}{_FORM}")]
    causes: Causes = []
    if parts.scheme != "https":
        words = f"'https' is the only allowed URL scheme{_FORM}"
        causes.append(invalid(at, parts.scheme, words))
    if not host:
        causes.append(invalid(at, parts.netloc, f"host must be specified{_FORM}"))
    for value, words in (
        (parts.username, "user information is not permitted in the URL"),
        (parts.fragment or None, "fragments are not permitted in the URL"),
        (parts.query or None, "query parameters are not permitted in the URL"),
    ):
        if value is not None:
            causes.append(invalid(at, value, words))
    return causes


def check_webhook_service(service: Any, at: str) -> Causes:
    """A name and a namespace, a port, and a path of DNS subdomains."""
    causes: Causes = []
    # upstream confuses the two: a cause for a missing name has the field of the namespace
    if not service.namespace:
        causes.append(required(f"{at}.name", "service name is required"))
    if not service.name:
        causes.append(required(f"{at}.namespace", "service namespace is required"))
    if service.port is not None and not 1 <= service.port <= 65_535:
        words = "port is not valid: must be between 1 and 65535, inclusive"
        causes.append(invalid(f"{at}.port", service.port, words))
    return causes + _check_path(service.path, f"{at}.path")


def _check_path(path: str | None, at: str) -> Causes:
    if path is None or path in ("", "/"):
        return []
    causes: Causes = []
    if not path.startswith("/"):
        causes.append(invalid(at, path, "must start with a '/'"))
    for number, segment in enumerate(path[1:].removesuffix("/").split("/")):
        if not segment:
            causes.append(invalid(at, path, f"segment[{number}] may not be empty"))
        for words in dns_subdomain(segment) if segment else ():
            causes.append(invalid(at, path, f"segment[{number}]: {words}"))
    return causes
