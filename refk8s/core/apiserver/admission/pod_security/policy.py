"""The policy of a namespace, from its labels. Rules PSA-1, PSA-2 (spec/pod_security.md).

Source: Kubernetes documentation, "Pod Security Admission" (labels for namespaces).
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from refk8s.core.api import status
from refk8s.core.api.status import Cause
from refk8s.core.apiserver.admission.outcome import LevelVersion, SecurityPolicy
from refk8s.core.value import evolve

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)  # from the least to the most strict
MODES = ("enforce", "audit", "warn")
LATEST = "latest"
_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)", re.ASCII)

Labels = tuple[tuple[str, str], ...]


def labels_of(labels: Mapping[str, str] | None) -> Labels:
    """The labels of a namespace that PodSecurity reads, sorted. O(labels)."""
    if not labels:
        return ()
    return tuple(sorted([item for item in labels.items() if item[0].startswith(PREFIX)]))


@lru_cache(maxsize=256)
def policy_of(labels: Labels, defaults: SecurityPolicy) -> SecurityPolicy:
    """PSA-1: the policy of these labels. An invalid level of enforce counts as restricted, of the
    other modes as privileged; an invalid version as the latest. The level of enforce is also that
    of warn, if the labels do not set one and the default is less strict."""
    given = dict(labels)
    found: dict[str, LevelVersion] = {}
    for mode in MODES:
        default: LevelVersion = getattr(defaults, mode)
        level = given.get(PREFIX + mode, default.level)
        if level not in LEVELS:
            level = RESTRICTED if mode == "enforce" else PRIVILEGED
        version = given.get(f"{PREFIX}{mode}-version", default.version)
        found[mode] = LevelVersion(level, version if is_version(version) else LATEST)
    enforced, warned = found["enforce"], found["warn"]
    is_set = PREFIX + "enforce" in given and PREFIX + "warn" not in given
    if is_set and LEVELS.index(enforced.level) > LEVELS.index(warned.level):
        own_version = f"{PREFIX}warn-version" in given
        found["warn"] = evolve(enforced, version=warned.version) if own_version else enforced
    return SecurityPolicy(**found)


def is_version(text: str) -> bool:
    """Whether the text is `latest` or v1.N."""
    return text == LATEST or _VERSION.fullmatch(text) is not None


def minor_of(version: str) -> int | None:
    """The minor version; None for the latest."""
    found = _VERSION.fullmatch(version)
    return int(found[1]) if found is not None else None


def problems_of(labels: Labels) -> list[Cause]:
    """PSA-2: what is wrong with the labels, in the order of the modes."""
    given = dict(labels)
    found: list[Cause] = []
    for mode in MODES:
        key = PREFIX + mode
        if given.get(key, PRIVILEGED) not in LEVELS:
            words = f"must be one of {', '.join(LEVELS)}"
            found.append(Cause(status.INVALID, f"metadata.labels[{key}]", words, given[key]))
        key += "-version"
        if not is_version(given.get(key, LATEST)):
            words = 'must be "latest" or "v1.x"'
            found.append(Cause(status.INVALID, f"metadata.labels[{key}]", words, given[key]))
    return found
