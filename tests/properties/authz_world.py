"""An API server with the default roles and both modes, for tests."""

import json
from functools import cache
from typing import Any

from api_world import World

from refk8s.core.api import resources
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.authorize.default_policy import default_policy
from refk8s.core.apiserver.authorize.modes import authorizers
from refk8s.core.apiserver.config import Config
from refk8s.core.store import History

NAMESPACES = ("default", "other", "kube-system", "kube-public", "kube-node-lease")
RBAC = "/apis/rbac.authorization.k8s.io/v1"
USER = User("jane", groups=("system:authenticated",))


def config(*modes: str) -> Config:
    authorizer, roles = authorizers(modes or ("Node", "RBAC"))
    return Config(authorizer=authorizer, roles=roles)


class AuthorizedWorld(World):
    """A World with the default roles, in which requests are authorized."""

    def __init__(self, *modes: str) -> None:
        super().__init__((), config(*modes))
        self.history = _beginning()

    def ask(
        self, method: str, target: str, user: User | None = USER, body: Any = b"", **headers: str
    ) -> tuple[int, Any]:
        """The code and the body of an answer."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        reply: Any = self.http(method, target, body, named, user)
        content = getattr(reply, "content", b"{}")
        return getattr(reply, "code", 101), json.loads(content) if content[:1] == b"{" else content

    def grant(self, user: User, namespace: str, *rules: dict[str, Any], name: str = "own") -> None:
        """Give the user a role in the namespace; in the cluster if that is empty."""
        kind = "Role" if namespace else "ClusterRole"
        where = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        plural = f"{kind.lower()}s"
        role = {"metadata": {"name": name}, "rules": list(rules)}
        assert self.ask("POST", f"{where}/{plural}", ADMIN, role)[0] == 201
        self.bind(user, namespace, kind, name)

    def bind(self, user: User, namespace: str, kind: str, role: str) -> None:
        """Bind a role to the user."""
        where = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        plural = "rolebindings" if namespace else "clusterrolebindings"
        binding = {
            "metadata": {"name": f"{user.name}-{role}".replace(":", "-")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "User", "name": user.name}],
        }
        code, said = self.ask("POST", f"{where}/{plural}", ADMIN, binding)
        assert code == 201, said


def rule(verbs: str, resources_: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "resources": resources_.split(), "apiGroups": [group], **more}


@cache
def _beginning() -> History[Any]:
    world = World(NAMESPACES)
    for obj in default_policy():
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None
        namespace = obj.metadata.namespace or ""
        taken = world.do(
            Request("create", resource, namespace, obj.metadata.name, body=obj, user=ADMIN)
        )
        assert taken.response.code == 201, taken.response.body
    return world.history
