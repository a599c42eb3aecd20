"""An object of every kind that is kept, and what may be changed in it: the material of the cross
product (test_api_cross.py).

`SAMPLES` has the fields of an object beside kind, apiVersion and metadata. `CHANGES` has, for each
kind, values that a valid update may give to fields of the desired state: every field that raises
the generation stands there. `STATUSES` has a status.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

Tree = dict[str, Any]

NEW_YEAR = "2026-01-01T00:00:00Z"
_CONDITION = {
    "type": "X",
    "status": "True",
    "reason": "R",
    "message": "",
    "lastTransitionTime": NEW_YEAR,
}
_C = {"name": "c", "image": "i"}
_T = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [_C]}}
_J = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [_C], "restartPolicy": "Never"}}
_S = {"matchLabels": {"app": "x"}}
_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
_HOOK = {
    "name": "x.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
    "clientConfig": {"url": "https://127.0.0.1:9/x"}, "failurePolicy": "Fail",
    "matchPolicy": "Equivalent", "timeoutSeconds": 10, "namespaceSelector": {}, "objectSelector": {},
}  # fmt: skip
_MUTATING_HOOK = {**_HOOK, "reinvocationPolicy": "Never"}
_BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
_CSR = b64encode(
    b"\n".join([
        b"-----BEGIN CERTIFICATE REQUEST-----",
        b"MIHaMIGBAgEAMB8xDTALBgNVBAoMBGRldnMxDjAMBgNVBAMMBWFsaWNlMFkwEwYH",
        b"KoZIzj0CAQYIKoZIzj0DAQcDQgAE65wMV1UpglrH7R2x+VI71JqYazGWJ1EnFpy5",
        b"Au72onKGHNabSvfuVuSu7VAP+HF7HhL/H7D2tGZB8ItZL/+jJqAAMAoGCCqGSM49",
        b"BAMCA0gAMEUCIAvEmhsr+B24974Gr7PkK3rUFalYvZWgNF69bwGzepupAiEAwvVb",
        b"k6cuxpam7yeqxHo5fbXUD9LrUDU3c5BpHxIoDz8=",
        b"-----END CERTIFICATE REQUEST-----",
        b"",
    ])
).decode()  # fmt: skip

SAMPLES: dict[str, Tree] = {
    "ConfigMap": {"data": {"k": "1"}},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]},
    "Event": {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "type": "Normal"},
    "LimitRange": {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}},
    "Namespace": {},
    "Node": {"spec": {}},
    "PersistentVolumeClaim": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    "PersistentVolume": {
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}},
    },
    "Pod": {"spec": {"containers": [_C], "activeDeadlineSeconds": 1000}},
    "PodTemplate": {"template": _T},
    "ReplicationController": {"spec": {"replicas": 1, "template": _T}},
    "ResourceQuota": {"spec": {"hard": {"pods": "1"}}},
    "Secret": {"data": {"k": "MQ=="}},
    "ServiceAccount": {},
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "APIService": {
        "spec": {"group": "g.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                 "insecureSkipTLSVerify": True, "service": {"name": "s", "namespace": "default"}},
    },
    "ControllerRevision": {"data": {"x": 1}, "revision": 1},
    "DaemonSet": {"spec": {"selector": _S, "template": _T}},
    "Deployment": {"spec": {"replicas": 1, "selector": _S, "template": _T}},
    "ReplicaSet": {"spec": {"replicas": 1, "selector": _S, "template": _T}},
    "StatefulSet": {"spec": {"replicas": 1, "serviceName": "s", "selector": _S, "template": _T}},
    "HorizontalPodAutoscaler": {
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
    },
    "CronJob": {"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": _J}}}},
    "Job": {"spec": {"parallelism": 1, "template": _J}},
    "CertificateSigningRequest": {"spec": {"request": _CSR, "signerName": "example.com/own", "usages": ["client auth"]}},
    "IPAddress": {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}},
    "ServiceCIDR": {"spec": {"cidrs": ["10.9.0.0/24"]}},
    "DeviceTaintRule": {"spec": {"taint": {"key": "k", "effect": "NoSchedule", "timeAdded": "2023-11-13T00:00:00Z"}}},
    "IngressClass": {"spec": {"controller": "example.com/c"}},
    "Ingress": {"spec": {"defaultBackend": _BACKEND}},
    "NetworkPolicy": {"spec": {"podSelector": _S}},
    "PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": _S}},
    "ClusterRole": {"rules": []},
    "ClusterRoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}},
    "Role": {"rules": []},
    "RoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}},
    "CSIDriver": {"spec": {}},
    "CSINode": {"spec": {"drivers": []}},
    "CSIStorageCapacity": {"storageClassName": "s", "capacity": "1Gi"},
    "StorageClass": {"provisioner": "example.com/disk"},
    "VolumeAttachment": {"spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
    "VolumeAttributesClass": {"driverName": "example.com", "parameters": {"a": "b"}},
    "StorageVersionMigration": {"spec": {"resource": {"group": "apps", "resource": "deployments"}}},
    "MutatingAdmissionPolicy": {
        "spec": {"matchConstraints": {"resourceRules": [_RULE]}, "reinvocationPolicy": "Never",
                 "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]},
    },
    "MutatingAdmissionPolicyBinding": {"spec": {"policyName": "p"}},
    "MutatingWebhookConfiguration": {"webhooks": [_MUTATING_HOOK]},
    "ValidatingAdmissionPolicy": {
        "spec": {"matchConstraints": {"resourceRules": [_RULE]}, "validations": [{"expression": "true"}]},
    },
    "ValidatingAdmissionPolicyBinding": {"spec": {"policyName": "p", "validationActions": ["Deny"]}},
    "ValidatingWebhookConfiguration": {"webhooks": [_HOOK]},
    "CustomResourceDefinition": {
        "spec": {"group": "g.example.com", "scope": "Namespaced",
                 "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
                 "versions": [{"name": "v1", "served": True, "storage": True,
                               "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    },
    "PriorityClass": {"value": 1, "description": "d"},
    "Lease": {"spec": {"holderIdentity": "a"}},
    "RuntimeClass": {"handler": "h"},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]},
    "FlowSchema": {"spec": {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": 10}},
    "PriorityLevelConfiguration": {
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}},
    },
    "DeviceClass": {"spec": {"selectors": [{"cel": {"expression": "true"}}]}},
    "ResourceClaim": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}},
    "ResourceClaimTemplate": {"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}},
    "ResourceSlice": {
        "spec": {"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}},
    },
}  # fmt: skip

NAMES = {
    "IPAddress": "10.9.0.1",
    "APIService": "v1.g.example.com",
    "CustomResourceDefinition": "gadgets.g.example.com",
}

# (path, value) of valid changes. What the generation counts is marked in the reference, not here.
CHANGES: dict[str, list[tuple[str, Any]]] = {
    "ConfigMap": [("data", {"k": "2"})],
    "Endpoints": [
        (
            "subsets",
            [{"addresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 80, "protocol": "TCP"}]}],
        )
    ],
    "Event": [("message", "m")],
    "LimitRange": [("spec.limits", [{"type": "Pod", "max": {"cpu": "2"}}])],
    "Node": [("spec.unschedulable", True)],
    "PersistentVolume": [("spec.persistentVolumeReclaimPolicy", "Delete")],
    "Pod": [("spec.activeDeadlineSeconds", 900)],
    "PodTemplate": [("template.metadata.labels", {"app": "y"})],
    "ReplicationController": [("spec.replicas", 2)],
    "ResourceQuota": [("spec.hard", {"pods": "2"})],
    "Secret": [("data", {"k": "Mg=="})],
    "ServiceAccount": [("automountServiceAccountToken", False)],
    "Service": [("spec.sessionAffinity", "None"), ("spec.selector", {"a": "b"})],
    "APIService": [("spec.versionPriority", 16)],
    "ControllerRevision": [("revision", 2)],
    "DaemonSet": [("spec.minReadySeconds", 5)],
    "Deployment": [("spec.replicas", 2), ("metadata.annotations", {"note": "2"})],
    "ReplicaSet": [("spec.replicas", 2)],
    "StatefulSet": [("spec.replicas", 2)],
    "HorizontalPodAutoscaler": [("spec.maxReplicas", 8)],
    "CronJob": [("spec.suspend", True)],
    "Job": [("spec.parallelism", 2)],
    "IngressClass": [("spec.parameters", {"kind": "P", "name": "n", "scope": "Cluster"})],
    "Ingress": [
        ("spec.defaultBackend", {"service": {"name": "other", "port": {"number": 80}}}),
        ("spec.ingressClassName", "c"),
    ],
    "NetworkPolicy": [("spec.podSelector", {"matchLabels": {"app": "y"}})],
    "PodDisruptionBudget": [("spec.minAvailable", 2)],
    "ClusterRole": [("rules", [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])],
    "ClusterRoleBinding": [
        ("subjects", [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}])
    ],
    "Role": [("rules", [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])],
    "RoleBinding": [
        ("subjects", [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}])
    ],
    "CSIStorageCapacity": [("capacity", "2Gi")],
    "StorageClass": [("allowVolumeExpansion", True)],
    "MutatingAdmissionPolicy": [("spec.reinvocationPolicy", "IfNeeded")],
    "MutatingAdmissionPolicyBinding": [("spec.policyName", "q")],
    "MutatingWebhookConfiguration": [("webhooks", [{**_MUTATING_HOOK, "name": "y.example.com"}])],
    "ValidatingAdmissionPolicy": [("spec.validations", [{"expression": "false"}])],
    "ValidatingAdmissionPolicyBinding": [("spec.validationActions", ["Warn"])],
    "ValidatingWebhookConfiguration": [("webhooks", [{**_HOOK, "name": "y.example.com"}])],
    "CustomResourceDefinition": [("spec.names.shortNames", ["gd"])],
    "PriorityClass": [("description", "e")],
    "Lease": [("spec.holderIdentity", "b")],
    "EndpointSlice": [
        ("metadata.labels", {"app": "y"}),
        ("ports", [{"port": 81, "name": "", "protocol": "TCP"}]),
        ("endpoints", [{"addresses": ["10.1.2.4"], "conditions": {}}]),
    ],
    "FlowSchema": [("spec.matchingPrecedence", 11)],
    "PriorityLevelConfiguration": [("spec.limited.nominalConcurrencyShares", 2)],
    "DeviceTaintRule": [
        ("spec.taint", {"key": "k", "effect": "NoExecute", "timeAdded": "2023-11-14T00:00:00Z"})
    ],
    "DeviceClass": [("spec.selectors", [{"cel": {"expression": "false"}}])],
    "ResourceSlice": [("spec.pool", {"name": "p", "generation": 2, "resourceSliceCount": 1})],
}

STATUSES: dict[str, Tree] = {
    "Namespace": {"phase": "Active", "conditions": [{"type": "X", "status": "True", "lastTransitionTime": NEW_YEAR}]},
    "PersistentVolumeClaim": {"phase": "Bound"},
    "PersistentVolume": {"message": "m"},
    "Pod": {"phase": "Running", "message": "m", "qosClass": "BestEffort"},
    "ReplicationController": {"replicas": 0, "observedGeneration": 1},
    "ResourceQuota": {"hard": {"pods": "1"}},
    "Service": {"loadBalancer": {}, "conditions": [_CONDITION]},
    "DaemonSet": {"currentNumberScheduled": 0, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 0},
    "Deployment": {"observedGeneration": 1},
    "ReplicaSet": {"replicas": 0, "observedGeneration": 1},
    "StatefulSet": {"replicas": 0, "availableReplicas": 0, "observedGeneration": 1},
    "HorizontalPodAutoscaler": {"currentReplicas": 1, "desiredReplicas": 1, "currentMetrics": None},
    "CronJob": {"lastScheduleTime": NEW_YEAR},
    "Ingress": {"loadBalancer": {"ingress": [{"ip": "10.1.2.3"}]}},
    "PodDisruptionBudget": {"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1},
    "VolumeAttachment": {"attached": True},
    "CertificateSigningRequest": {
        "conditions": [{**_CONDITION, "message": "m", "lastUpdateTime": NEW_YEAR}],
    },
    "ServiceCIDR": {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": NEW_YEAR}]},
    "StorageVersionMigration": {"resourceVersion": "5"},
    "APIService": {"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": NEW_YEAR}]},
    "Job": {"active": 1},
    "PriorityLevelConfiguration": {"conditions": [{"type": "X", "status": "True", "lastTransitionTime": NEW_YEAR}]},
    "DeviceTaintRule": {"conditions": [_CONDITION]},
    "FlowSchema": {"conditions": [{"type": "X", "status": "True", "lastTransitionTime": NEW_YEAR}]},
    "ValidatingAdmissionPolicy": {"observedGeneration": 1},
    "ResourceClaim": {
        "allocation": {"devices": {"results": [{"request": "r", "driver": "d.example", "pool": "p", "device": "d"}]}},
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
    },
}  # fmt: skip


def sample(kind: str, api_version: str, name: str = "", **metadata: Any) -> Tree:
    """A new object of the kind."""
    name = name or NAMES.get(kind, "a")
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        **SAMPLES[kind],
    }


def with_value(tree: Tree, path: str, value: Any) -> Tree:
    """A copy of the tree with another value at the path."""
    step, _, rest = path.partition(".")
    return {**tree, step: with_value(tree.get(step) or {}, rest, value) if rest else value}


def value_at(tree: Any, path: str) -> Any:
    """The value at the path; None where the way there ends."""
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree
