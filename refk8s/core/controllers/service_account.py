"""Objects that every namespace has: the ServiceAccount `default` and the CA certificate. Rules
SA-1, SA-2 (spec/workloads/service_account.md).

Source: Kubernetes documentation, "Managing Service Accounts"; KEP-1205 (root CA publisher).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import ConfigMap, Namespace, ServiceAccount
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View

DEFAULT = "default"
ROOT_CERTIFICATE = "kube-root-ca.crt"
CERTIFICATE_KEY = "ca.crt"
DESCRIPTION = "kubernetes.io/description"
DESCRIPTION_TEXT = "The certificate of the authority that vouches for this cluster's API server."


def _namespace_of(name: str) -> Any:
    """The namespace of a changed object, if it has this name."""

    def keys(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
        obj = new if new is not None else old
        assert obj is not None
        return (obj.metadata.namespace,) if obj.metadata.name == name else ()

    return keys


def is_open(namespace: Namespace | None) -> bool:
    """Whether objects can be created in the namespace."""
    return namespace is not None and namespace.metadata.deletion_timestamp is None


class ServiceAccountController(Reconciler):
    """SA-1: a ServiceAccount `default` in every namespace."""

    name = "serviceaccount-controller"
    user = service_account_user("kube-system", "service-account-controller")
    interests = (Interest(NAMESPACES, own_key), Interest(SERVICE_ACCOUNTS, _namespace_of(DEFAULT)))

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        if (
            not is_open(view.get(NAMESPACES, key))
            or view.get(SERVICE_ACCOUNTS, f"{key}/{DEFAULT}") is not None
        ):
            return NOTHING
        # Act
        account = ServiceAccount(metadata=ObjectMeta(name=DEFAULT, namespace=key))
        return Plan(
            (
                (
                    Request(
                        "create",
                        SERVICE_ACCOUNTS,
                        key,
                        DEFAULT,
                        body=account,
                        because=f"namespace {key} has none",
                    ),
                ),
            )
        )


class RootCertificatePublisher(Reconciler):
    """SA-2: a ConfigMap with the cluster's CA certificate in every namespace."""

    name = "root-ca-certificate-publisher-controller"
    user = service_account_user("kube-system", "root-ca-cert-publisher")
    interests = (
        Interest(NAMESPACES, own_key),
        Interest(CONFIG_MAPS, _namespace_of(ROOT_CERTIFICATE)),
    )

    def __init__(self, certificate: str) -> None:
        self.certificate = certificate

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        if not is_open(view.get(NAMESPACES, key)):
            return NOTHING
        published: ConfigMap | None = view.get(CONFIG_MAPS, f"{key}/{ROOT_CERTIFICATE}")

        # Decide
        data = {CERTIFICATE_KEY: self.certificate}
        if published is not None and published.data == data:
            return NOTHING

        # Act
        if published is None:
            metadata = ObjectMeta(
                name=ROOT_CERTIFICATE, namespace=key, annotations={DESCRIPTION: DESCRIPTION_TEXT}
            )
            body = ConfigMap(metadata=metadata, data=data)
            because = f"pods of namespace {key} verify the API server with it"
            return Plan(
                (
                    (
                        Request(
                            "create", CONFIG_MAPS, key, ROOT_CERTIFICATE, body=body, because=because
                        ),
                    ),
                )
            )
        body = replace(published, data=data, binary_data=None)
        return Plan(
            (
                (
                    Request(
                        "update",
                        CONFIG_MAPS,
                        key,
                        ROOT_CERTIFICATE,
                        body=body,
                        because="it was changed",
                    ),
                ),
            )
        )
