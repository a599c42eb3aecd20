"""When a request that an API server refuses for the moment is sent again. Rule CLIENT-6
(spec/client.md).

Source: RFC 9110, section 10.2.3; Kubernetes documentation, "API Priority and Fairness".
"""

SECONDS_DEFAULT, SECONDS_MAX = 1, 60


def retry_seconds(header: str) -> int:
    """The wait that a header `Retry-After` asks for. A date is not read: Kubernetes sends none."""
    text = header.strip()
    if not text.isascii() or not text.isdigit():
        return SECONDS_DEFAULT
    return min(int(text[:9]), SECONDS_MAX)
