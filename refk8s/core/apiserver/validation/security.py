"""Security contexts of pods and containers. Rule VAL-9 (spec/validation.md).

Source: Kubernetes documentation, "Configure a Security Context for a Pod or Container", "Using sysctls in a Kubernetes Cluster".
Left out: the options of Windows; profiles of AppArmor, SELinux and seccomp are kept as they are given.
"""

from refk8s.core.api.core_v1 import PodSpec, SecurityContext
from refk8s.core.apiserver.validation.field import Causes, duplicate, invalid, not_supported, required

ID_RANGE = "must be between 0 and 2147483647, inclusive"


def validate_security(context: SecurityContext, at: str) -> Causes:
    causes: Causes = []
    if context.privileged and context.allow_privilege_escalation is False:
        causes.append(invalid(at, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
    added = (context.capabilities.add or ()) if context.capabilities is not None else ()
    if context.allow_privilege_escalation is False and ("SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added):
        causes.append(invalid(at, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
    return validate_ids(context.run_as_user, context.run_as_group, at) + causes


def validate_ids(user: int | None, group: int | None, at: str) -> Causes:
    causes: Causes = []
    for number, name in ((user, "runAsUser"), (group, "runAsGroup")):
        if number is not None and not 0 <= number <= 2**31 - 1:
            causes.append(invalid(f"{at}.{name}", number, "must be between 0 and 2147483647, inclusive"))
    return causes


def validate_pod_security(spec: PodSpec, at: str) -> Causes:
    context = spec.security_context
    if context is None:
        return []
    causes: Causes = []
    here = f"{at}.securityContext"
    if context.fs_group is not None and not 0 <= context.fs_group <= 2**31 - 1:
        causes.append(invalid(f"{here}.fsGroup", context.fs_group, "must be between 0 and 2147483647, inclusive"))
    causes += validate_ids(context.run_as_user, context.run_as_group, here)
    for position, group in enumerate(context.supplemental_groups or ()):
        if not 0 <= group <= 2**31 - 1:
            causes.append(invalid(f"{here}.supplementalGroups[{position}]", group, "must be between 0 and 2147483647, inclusive"))
    if spec.share_process_namespace and spec.host_pid:
        causes.append(invalid(f"{at}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled"))
    seen: set[str] = set()
    for position, sysctl in enumerate(context.sysctls or ()):
        where = f"{here}.sysctls[{position}].name"
        if not sysctl.name:
            causes.append(required(where))
        elif sysctl.name in seen:
            causes.append(duplicate(where, sysctl.name))
        seen.add(sysctl.name)
    policy = context.fs_group_change_policy
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        causes.append(not_supported(f"{here}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch")))
    return causes
