"""How many connections the file descriptors of this process allow. Rule HTTP-6 (spec/http.md)."""

import resource

CONNECTIONS_MAX = 10_000
DESCRIPTORS_RESERVED = 256  # for the store, the engine's connections, logs and volumes
DESCRIPTORS_WANTED = 65_536


def compute_connections_max() -> int:
    """Raise the limit of file descriptors; returns the number of connections it allows (HTTP-6)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass  # the limit stays, and fewer connections are allowed
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, soft - max(DESCRIPTORS_RESERVED, soft // 4)))
