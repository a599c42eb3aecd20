"""The checks of a level and version, and what a pod violates. Rule PSA-3 (spec/pod_security.md).

Source: Kubernetes documentation, "Pod Security Standards".
"""

from collections.abc import Sequence
from functools import lru_cache

from refk8s.core.api.core_v1 import PodSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver.admission.outcome import LevelVersion
from refk8s.core.apiserver.admission.pod_security import baseline, restricted
from refk8s.core.apiserver.admission.pod_security.policy import PRIVILEGED, RESTRICTED, minor_of
from refk8s.core.apiserver.admission.pod_security.words import Check, Violation

Versions = tuple[tuple[int, Check], ...]
"""(minor version from which it applies, check), in this order; the last that applies counts."""

_BASELINE: tuple[tuple[str, Versions], ...] = (
    ("appArmorProfile", ((0, baseline.app_armor),)),
    ("capabilities", ((0, baseline.capabilities),)),
    ("hostNamespaces", ((0, baseline.host_namespaces),)),
    ("hostPathVolumes", ((0, baseline.host_path),)),
    ("hostPorts", ((0, baseline.host_ports),)),
    ("hostProbesAndHostLifecycle", ((34, baseline.probe_hosts),)),
    ("privileged", ((0, baseline.privileged),)),
    ("procMount", ((0, baseline.proc_mount), (35, baseline.proc_mount_35))),
    ("seLinuxOptions", ((0, baseline.se_linux), (31, baseline.se_linux_31))),
    ("seccompProfile", ((0, baseline.seccomp_annotations), (19, baseline.seccomp))),
    (
        "sysctls",
        (
            (0, baseline.sysctls),
            (27, baseline.sysctls_27),
            (29, baseline.sysctls_29),
            (32, baseline.sysctls_32),
        ),
    ),
    ("windowsHostProcess", ((0, baseline.host_process),)),
)
_RESTRICTED: tuple[tuple[str, Versions, str], ...] = (
    (
        "allowPrivilegeEscalation",
        ((8, restricted.privilege_escalation), (25, restricted.privilege_escalation_25)),
        "",
    ),
    (
        "capabilities_restricted",
        ((22, restricted.capabilities), (25, restricted.capabilities_25)),
        "capabilities",
    ),
    ("procMount_restricted", ((35, baseline.proc_mount),), "procMount"),
    ("restrictedVolumes", ((0, restricted.volume_types),), "hostPathVolumes"),
    (
        "runAsNonRoot",
        ((0, restricted.run_as_non_root), (35, restricted.run_as_non_root_35)),
        "",
    ),
    ("runAsUser", ((23, restricted.run_as_user), (35, restricted.run_as_user_35)), ""),
    (
        "seccompProfile_restricted",
        ((19, restricted.seccomp), (25, restricted.seccomp_25)),
        "seccompProfile",
    ),
)
"""The third is the check of baseline that it replaces."""


def _at(versions: Versions, minor: int | None) -> Check | None:
    found = [check for since, check in versions if minor is None or since <= minor]
    return found[-1] if found else None


@lru_cache(maxsize=128)
def _checks_of(level: str, minor: int | None) -> tuple[Check, ...]:
    """The checks of a level, in the order of their names, those of baseline first."""
    more = [
        (check, replaced)
        for _, versions, replaced in _RESTRICTED
        if level == RESTRICTED and (check := _at(versions, minor)) is not None
    ]
    without = {replaced for _, replaced in more}
    first = [_at(versions, minor) for name, versions in _BASELINE if name not in without]
    return (*(check for check in first if check is not None), *(check for check, _ in more))


def violations(wanted: LevelVersion, metadata: ObjectMeta, spec: PodSpec) -> tuple[Violation, ...]:
    """What the pod violates of this level. O(checks and containers)."""
    if wanted.level == PRIVILEGED:
        return ()
    found = [check(metadata, spec) for check in _checks_of(wanted.level, minor_of(wanted.version))]
    return tuple(one for one in found if one is not None)


def details(found: Sequence[Violation]) -> str:
    """The reasons with their details, as in a refusal."""
    return ", ".join(f"{reason} ({detail})" for reason, detail in found)


def reasons(found: Sequence[Violation]) -> str:
    """The reasons alone, as in the warnings about several pods."""
    return ", ".join(reason for reason, _ in found)
