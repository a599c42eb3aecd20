"""Users and their groups: who sends a request. Rule LOOP-13 (spec/loop.md).

Source: Kubernetes documentation, "Authenticating"; "Using RBAC Authorization" (core component
roles); "Using Node Authorization".
"""

from typing import Any, Final

from refk8s.core.value import Value

MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
NODES: Final = "system:nodes"
SERVICE_ACCOUNTS: Final = "system:serviceaccounts"
SERVICE_ACCOUNT_PREFIX: Final = "system:serviceaccount:"
NODE_PREFIX: Final = "system:node:"


class User(Value, frozen=True):
    """The user that sends a request. Source: Kubernetes documentation, "Authenticating"."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    # further attributes from the authenticator, sorted by key
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


def info_tree(user: User) -> dict[str, Any]:
    """The user as JSON: a UserInfo of authentication.k8s.io, in reviews for webhooks, in
    expressions and in the audit log."""
    tree: dict[str, Any] = {"username": user.name}
    if user.uid:
        tree["uid"] = user.uid
    if user.groups:
        tree["groups"] = list(user.groups)
    if user.extra:
        tree["extra"] = {key: list(values) for key, values in user.extra}
    return tree


ADMIN: Final = User("kubernetes-admin", groups=(MASTERS, AUTHENTICATED))
ANONYMOUS: Final = User("system:anonymous", groups=(UNAUTHENTICATED,))
API_SERVER: Final = User("system:apiserver", groups=(MASTERS, AUTHENTICATED))


def component_user(name: str) -> User:
    """The user of a component of which a cluster has one, such as kube-scheduler, or of
    kube-proxy."""
    return User(f"system:{name}", groups=(AUTHENTICATED,))


def node_user(node_name: str) -> User:
    """The user of a node's kubelet."""
    return User(f"{NODE_PREFIX}{node_name}", groups=(NODES, AUTHENTICATED))


def node_name_of(user: User) -> str:
    """The node whose kubelet this user is; empty for any other user."""
    if NODES in user.groups and user.name.startswith(NODE_PREFIX):
        return user.name.removeprefix(NODE_PREFIX)
    return ""


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every service account in this namespace, except system:authenticated."""
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")


def service_account_user(namespace: str, name: str) -> User:
    """The user of a controller that acts as a service account."""
    groups = (*service_account_groups(namespace), AUTHENTICATED)
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups=groups)
