"""The default roles besides those of controllers. Rule RBAC-6 (spec/authorization.md).

Source: Kubernetes documentation, "Using RBAC Authorization" (default roles and role bindings).
"""

from typing import Final

from refk8s.core.apiserver.authorize.controller_roles import CHANGE, EVENTS, READ, Grants

_EVERY: Final = "create delete deletecollection get list patch update watch"
_REVIEWS: Final = (
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews"),
)
_CSR: Final = "certificates.k8s.io"
_STORAGE: Final = "storage.k8s.io"
_RESOURCE: Final = "resource.k8s.io"
_SHARES: Final = "events namespaces nodes pods"

_TO_ADMIN: Final[Grants] = (
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (_EVERY, "rbac.authorization.k8s.io", "rolebindings roles"),
)
_TO_EDIT: Final[Grants] = (
    (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "core", "serviceaccounts"),
    (CHANGE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    ("create", "core", "pods/eviction"),
    (
        CHANGE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers "
        "replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    ("create", "core", "serviceaccounts/token"),
    (
        CHANGE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets "
        "replicasets/scale statefulsets statefulsets/scale",
    ),
    (CHANGE, "autoscaling", "horizontalpodautoscalers"),
    (CHANGE, "batch", "cronjobs jobs"),
    (
        CHANGE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies "
        "replicasets replicasets/scale replicationcontrollers/scale",
    ),
    (CHANGE, "policy", "poddisruptionbudgets"),
    (CHANGE, "networking.k8s.io", "ingresses networkpolicies"),
    (_EVERY, "coordination.k8s.io", "leases"),
    (CHANGE, _RESOURCE, "resourceclaims resourceclaimtemplates"),
)
_TO_VIEW: Final[Grants] = (
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "
        "replicationcontrollers replicationcontrollers/scale serviceaccounts services "
        "services/status",
    ),
    (
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status "
        "replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    (READ, "core", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale "
        "deployments/status replicasets replicasets/scale replicasets/status statefulsets "
        "statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses "
        "ingresses/status networkpolicies replicasets replicasets/scale replicasets/status "
        "replicationcontrollers/scale",
    ),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (READ, _RESOURCE, "resourceclaims resourceclaims/status resourceclaimtemplates"),
)

AGGREGATED: Final = {
    # the role that has the rules -> (the label that it has, its rules)
    "system:aggregate-to-admin": ("admin", _TO_ADMIN),
    "system:aggregate-to-edit": ("edit", _TO_EDIT),
    "system:aggregate-to-view": ("view", _TO_VIEW),
}
AGGREGATING: Final = {"admin": "", "edit": "admin", "view": "edit"}
"""The roles that are filled from others by a label, and the label that they have themselves."""

CLUSTER_ROLES: Final[dict[str, Grants]] = {
    "cluster-admin": (("*", "*", "*"),),
    "system:auth-delegator": _REVIEWS,
    "system:basic-user": (
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        ("create", _CSR, "certificatesigningrequests/nodeclient"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        ("create", _CSR, "certificatesigningrequests/selfnodeclient"),
    ),
    "system:certificates.k8s.io:kube-apiserver-client-approver": (
        ("approve", _CSR, "signers", "kubernetes.io/kube-apiserver-client"),
    ),
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": (
        ("approve", _CSR, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
    ),
    "system:certificates.k8s.io:kubelet-serving-approver": (
        ("approve", _CSR, "signers", "kubernetes.io/kubelet-serving"),
    ),
    "system:certificates.k8s.io:legacy-unknown-approver": (
        ("approve", _CSR, "signers", "kubernetes.io/legacy-unknown"),
    ),
    "system:heapster": ((READ, "core", _SHARES), (READ, "extensions", "deployments")),
    "system:kube-aggregator": ((READ, "core", "endpoints services"),),
    "system:kube-controller-manager": (
        EVENTS,
        ("create", "coordination.k8s.io", "leases"),
        ("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        ("create", "core", "secrets serviceaccounts"),
        ("delete", "core", "secrets"),
        ("get", "core", "configmaps namespaces secrets serviceaccounts"),
        ("update", "core", "secrets serviceaccounts"),
        *_REVIEWS,
        ("list watch", "*", "*"),
        ("create", "core", "serviceaccounts/token"),
    ),
    "system:kube-dns": (("list watch", "core", "endpoints services"),),
    "system:kube-scheduler": (
        EVENTS,
        ("create", "coordination.k8s.io", "leases"),
        ("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
        (READ, "core", "nodes"),
        ("delete get list watch", "core", "pods"),
        ("create", "core", "bindings pods/binding"),
        ("patch update", "core", "pods/status"),
        (READ, "core", "replicationcontrollers services"),
        (READ, "apps extensions", "replicasets"),
        (READ, "apps", "statefulsets"),
        (READ, "policy", "poddisruptionbudgets"),
        (READ, "core", "persistentvolumeclaims persistentvolumes"),
        *_REVIEWS,
        (READ, _STORAGE, "csinodes"),
        (READ, "core", "namespaces"),
        (READ, _STORAGE, "csidrivers"),
        (READ, _STORAGE, "csistoragecapacities"),
        (READ, _STORAGE, "volumeattachments"),
        (READ, _RESOURCE, "deviceclasses"),
        ("create delete get list patch update watch", _RESOURCE, "resourceclaims"),
        ("patch update", _RESOURCE, "resourceclaims/status"),
        ("patch update", _RESOURCE, "resourceclaims/binding"),
        ("patch update", "core", "pods/finalizers"),
        (READ, _RESOURCE, "resourceslices"),
        (READ, _RESOURCE, "devicetaintrules"),
    ),
    "system:kubelet-api-admin": (
        (READ, "core", "nodes"),
        ("proxy", "core", "nodes"),
        (
            "*",
            "core",
            "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats",
        ),
    ),
    "system:node": (
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
        (READ, "core", "services"),
        ("create get list watch", "core", "nodes"),
        ("patch update", "core", "nodes/status"),
        ("patch update", "core", "nodes"),
        EVENTS,
        ("create delete", "core", "pods"),
        ("patch update", "core", "pods/status"),
        ("create", "core", "pods/eviction"),
        (READ, "core", "configmaps secrets"),
        ("get", "core", "persistentvolumeclaims persistentvolumes"),
        ("get", "core", "endpoints"),
        ("create get list watch", _CSR, "certificatesigningrequests"),
        (READ, _CSR, "clustertrustbundles"),
        ("create delete get patch update", "coordination.k8s.io", "leases"),
        ("get", _STORAGE, "volumeattachments"),
        ("create", "core", "serviceaccounts/token"),
        ("get patch update", "core", "persistentvolumeclaims/status"),
        (READ, _STORAGE, "csidrivers"),
        ("create delete get patch update", _STORAGE, "csinodes"),
        (READ, "node.k8s.io", "runtimeclasses"),
        ("get", _RESOURCE, "resourceclaims"),
        ("deletecollection", _RESOURCE, "resourceslices"),
    ),
    "system:node-bootstrapper": (("create get list watch", _CSR, "certificatesigningrequests"),),
    "system:node-problem-detector": (
        ("get", "core", "nodes"),
        ("patch", "core", "nodes/status"),
        EVENTS,
    ),
    "system:node-proxier": (
        ("list watch", "core", "endpoints services"),
        (READ, "core", "nodes"),
        EVENTS,
        ("list watch", "discovery.k8s.io", "endpointslices"),
        ("list watch", "networking.k8s.io", "servicecidrs"),
    ),
    "system:persistent-volume-provisioner": (
        ("create delete get list watch", "core", "persistentvolumes"),
        ("get list update watch", "core", "persistentvolumeclaims"),
        (READ, _STORAGE, "storageclasses"),
        ("watch", "core", "events"),
        EVENTS,
    ),
    "system:volume-scheduler": (
        ("get list patch update watch", "core", "persistentvolumes"),
        (READ, _STORAGE, "storageclasses"),
        ("get list patch update watch", "core", "persistentvolumeclaims"),
    ),
}

_PUBLIC: Final = "/healthz /livez /readyz /version /version/"
PATHS: Final = {
    # the paths that these cluster roles may get; cluster-admin may do everything with every path
    "system:discovery": (
        "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"
    ),
    "system:monitoring": (
        "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"
    ),
    "system:public-info-viewer": _PUBLIC,
    "system:service-account-issuer-discovery": "/.well-known/openid-configuration /openid/v1/jwks",
}

BINDINGS: Final = {
    # the cluster role -> the subjects of the binding of the same name
    "cluster-admin": ("Group system:masters",),
    "system:basic-user": ("Group system:authenticated",),
    "system:discovery": ("Group system:authenticated",),
    "system:kube-controller-manager": ("User system:kube-controller-manager",),
    "system:kube-dns": ("ServiceAccount kube-dns",),
    "system:kube-scheduler": ("User system:kube-scheduler",),
    "system:monitoring": ("Group system:monitoring",),
    "system:node": (),
    "system:node-proxier": ("User system:kube-proxy",),
    "system:public-info-viewer": (
        "Group system:authenticated",
        "Group system:unauthenticated",
    ),
    "system:service-account-issuer-discovery": ("Group system:serviceaccounts",),
    "system:volume-scheduler": ("User system:kube-scheduler",),
}

_LOCKS: Final = "create get list update watch"


def _locking(name: str) -> Grants:
    return (
        ("watch", "core", "configmaps"),
        ("get update", "core", "configmaps", name),
        (_LOCKS, "coordination.k8s.io", "leases"),
        (_LOCKS, "coordination.k8s.io", "leasecandidates"),
    )


ROLES: Final[dict[tuple[str, str], tuple[Grants, tuple[str, ...]]]] = {
    # (namespace, role) -> (its rules, the subjects of the binding of the same name)
    ("kube-public", "system:controller:bootstrap-signer"): (
        (
            (READ, "core", "configmaps"),
            ("update", "core", "configmaps", "cluster-info"),
            EVENTS,
        ),
        ("ServiceAccount bootstrap-signer",),
    ),
    ("kube-system", "extension-apiserver-authentication-reader"): (
        ((READ, "core", "configmaps", "extension-apiserver-authentication"),),
        (),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        _locking("kube-controller-manager"),
        ("User system:kube-controller-manager", "ServiceAccount kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        _locking("kube-scheduler"),
        ("User system:kube-scheduler", "ServiceAccount kube-scheduler"),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (
        ((READ, "core", "secrets"),),
        ("ServiceAccount bootstrap-signer",),
    ),
    ("kube-system", "system:controller:cloud-provider"): (
        (("create get list watch", "core", "configmaps"),),
        ("ServiceAccount cloud-provider",),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        (("delete get list watch", "core", "secrets"), EVENTS),
        ("ServiceAccount token-cleaner",),
    ),
}
"""The default roles in a namespace. A role without a subject here has no binding."""
