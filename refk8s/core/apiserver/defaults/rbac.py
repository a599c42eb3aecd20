"""Defaults of role bindings. Rule DEF-20 (spec/defaults.md).

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from msgspec.structs import replace

from refk8s.core.api.rbac_v1 import ClusterRoleBinding, RoleBinding, Subject

RBAC_GROUP = "rbac.authorization.k8s.io"


def default_binding(binding: RoleBinding | ClusterRoleBinding) -> RoleBinding | ClusterRoleBinding:
    """DEF-20: users, groups and roles are of the group rbac.authorization.k8s.io; service accounts
    of the core group."""
    role = (
        binding.role_ref
        if binding.role_ref.api_group
        else replace(binding.role_ref, api_group=RBAC_GROUP)
    )
    subjects = binding.subjects and tuple(
        [_default_subject(subject) for subject in binding.subjects]
    )
    fresh = replace(binding, role_ref=role, subjects=subjects)
    return binding if fresh == binding else fresh


def _default_subject(subject: Subject) -> Subject:
    if subject.api_group or subject.kind not in ("User", "Group"):
        return subject
    return replace(subject, api_group=RBAC_GROUP)
