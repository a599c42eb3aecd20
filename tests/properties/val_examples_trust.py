"""Trust bundles, requests of pods for certificates, migrations and devices that are wrong in one
way: see val_examples.py."""

from base64 import b64decode

from val_examples_cluster import CERTIFICATE, REQUEST

BUNDLE = "ClusterTrustBundle.certificates.k8s.io/v1"
POD_REQUEST = "PodCertificateRequest.certificates.k8s.io/v1"
MIGRATION = "StorageVersionMigration.storagemigration.k8s.io/v1"
TAINT_RULE, CLAIM = "DeviceTaintRule.resource.k8s.io/v1", "ResourceClaim.resource.k8s.io/v1"
SCHEMA, VOLUME_CLAIM = "FlowSchema.flowcontrol.apiserver.k8s.io/v1", "PersistentVolumeClaim"
AUTHORITY = (
    "MIIBHDCBwqADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAWEwIBcNMjAwMTAxMDAwMDAwWhgP"
    "MjA1MDAxMDEwMDAwMDBaMAwxCjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATzqpQG"
    "K61l8uEWRTAKJrb6iEqOI81KLR5GtMTToTB22cX/KvLcUXJbSeWhxuWYmNzGAo3lTfMK+IW6uIZD14Tg"
    "oxMwETAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCIBRqSsNodIEYHMyT6b/xuOMnF"
    "vk3Eo7ka5CTR6s0gPgIhAMpY6ZHD/q4DATY8jsaev+XPEzmKRSI4D7gkCxYDBLCs"
)
LEAF = (
    "MIIBGDCBv6ADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAWEwIBcNMjAwMTAxMDAwMDAwWhgP"
    "MjA1MDAxMDEwMDAwMDBaMAwxCjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATzqpQG"
    "K61l8uEWRTAKJrb6iEqOI81KLR5GtMTToTB22cX/KvLcUXJbSeWhxuWYmNzGAo3lTfMK+IW6uIZD14Tg"
    "oxAwDjAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0gAMEUCIQDFZI0tV79Y/1OdBy7exY96cjpry9CT"
    "8WpBB5s5D73l8QIgMvtGk/BAg0U6hVFg1biQbfmZtaaQDpm2l8XaC0XWwuM="
)
STUB = "".join(b64decode(REQUEST).decode().splitlines()[1:-1])
CHAIN = b64decode(CERTIFICATE).decode()
TIME = "2026-01-01T00:00:00Z"
TIMES = {"notBefore": TIME, "beginRefreshAt": TIME, "notAfter": TIME}


def pem(*contents, label="CERTIFICATE"):
    return "".join(f"-----BEGIN {label}-----\n{one}\n-----END {label}-----\n" for one in contents)


def bundle(text=None, name="x", **spec):
    text = pem(AUTHORITY) if text is None else text
    return {"metadata": {"name": name}, "spec": {"trustBundle": text, **spec}}


def pod_request(status=None, **spec):
    given = {f"{one}{part}": "x" for one in ("pod", "serviceAccount", "node") for part in ("Name", "UID")}
    given |= {"signerName": "example.com/a", "stubPKCS10Request": STUB}
    return {"spec": {**given, **spec}, "status": status or {}}


def condition(kind, status="True"):
    return {"type": kind, "status": status, "reason": "R", "lastTransitionTime": TIME}


def migration(*conditions, version="", resource="pods", group=""):
    status = {"conditions": [condition(one) for one in conditions], "resourceVersion": version}
    return {"spec": {"resource": {"resource": resource, "group": group}}, "status": status}


def taint_rule(status=None, **spec):
    taint = {"key": "k", "effect": "NoExecute"}
    return {"spec": {"taint": taint, **spec}, "status": status or {}}


def allocated(*consumers, device="d", request="r", **status):
    result = {"request": request, "driver": "d.example", "pool": "p", "device": device}
    given = {"allocation": {"devices": {"results": [result]}}, "reservedFor": list(consumers)}
    spec = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}
    return {"spec": spec, "status": {**given, **status}}


def consumer(uid="u"):
    return {"resource": "pods", "name": "p", "uid": uid}


def schema(*types):
    found = [{"type": one, "status": "True"} for one in types]
    spec = {"priorityLevelConfiguration": {"name": "global-default"}}
    return {"spec": spec, "status": {"conditions": found}}


def volume_claim(**status):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"spec": spec, "status": status}


NEW = [
    ("VAL-70", BUNDLE, bundle(), []),
    ("VAL-70", BUNDLE, bundle(""), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(pem(AUTHORITY, AUTHORITY)), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(pem(LEAF)), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(pem("AAAA")), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(pem("A: b\n\n" + AUTHORITY)), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(pem(AUTHORITY, label="X")), [("spec.trustBundle", "Invalid")]),
    ("VAL-70", BUNDLE, bundle("x" * (1 << 20) + "y"), [("spec.trustBundle", "TooLong")]),
    ("VAL-70", BUNDLE, bundle(name="a:b"), [("metadata.name", "Invalid")]),
    ("VAL-70", BUNDLE, bundle(name="example.com:a:b", signerName="example.com/a"), []),
    ("VAL-70", BUNDLE, bundle(name="b", signerName="example.com/a"), [("metadata.name", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), []),
    ("VAL-71", POD_REQUEST, pod_request(podUID=""), [("spec.podUID", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(nodeUID="u" * 129), [("spec.nodeUID", "TooLong")]),
    ("VAL-71", POD_REQUEST, pod_request(serviceAccountName="A"), [("spec.serviceAccountName", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(signerName=""), [("spec.signerName", "Required")]),
    ("VAL-71", POD_REQUEST, pod_request(maxExpirationSeconds=3599), [("spec.maxExpirationSeconds", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(maxExpirationSeconds=7862400), []),
    ("VAL-71", POD_REQUEST, pod_request(maxExpirationSeconds=86401, signerName="kubernetes.io/a"), [("spec.maxExpirationSeconds", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(stubPKCS10Request="AAAA"), [("spec.stubPKCS10Request", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(unverifiedUserAnnotations={"a b": "c"}), [("spec.unverifiedUserAnnotations", "Invalid")]),
    ("VAL-72", MIGRATION, migration(), []),
    ("VAL-72", MIGRATION, migration(resource=""), [("spec.resource.resource", "Required")]),
    ("VAL-72", MIGRATION, migration(resource="A"), [("spec.resource.resource", "Invalid")]),
    ("VAL-72", MIGRATION, migration(group="A"), [("spec.resource.group", "Invalid")]),
    ("VAL-52", TAINT_RULE, taint_rule(), []),
    ("VAL-52", TAINT_RULE, taint_rule(taint={"key": "", "effect": ""}), [
        ("spec.taint.key", "Invalid"), ("spec.taint.key", "Invalid"), ("spec.taint.effect", "Required"),
    ]),
    ("VAL-52", TAINT_RULE, taint_rule(deviceSelector={"driver": "a_b", "pool": "B", "device": "C"}), [
        ("spec.deviceSelector.driver", "Invalid"), ("spec.deviceSelector.pool", "Invalid"), ("spec.deviceSelector.device", "Invalid"),
    ]),
]  # fmt: skip

CHANGES = [
    ("VAL-70", BUNDLE, bundle(), bundle(), []),
    ("VAL-70", BUNDLE, bundle(), bundle("new"), [("spec.trustBundle", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request(podName="y"), [("spec", "Invalid")]),
    ("VAL-72", MIGRATION, migration(), migration(resource="nodes"), [("spec", "Invalid")]),
]

STATUSES = [
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Denied")]}), []),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Odd")]}), [("status.conditions[0].type", "NotSupported")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Failed", "False")]}), [("status.conditions[0].status", "NotSupported")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Denied"), condition("Issued")]}), [("status.conditions[1].type", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request({"conditions": [condition("Denied")]}), pod_request(), [("status", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Denied")], "certificateChain": CHAIN}), [("status", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Issued")], "certificateChain": CHAIN, **TIMES}), []),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Issued")], "certificateChain": "x", **TIMES}), [("status.certificateChain", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Issued")], "certificateChain": pem("AA==", label="X"), **TIMES}), [("status.certificateChain", "Invalid")]),
    ("VAL-71", POD_REQUEST, pod_request(), pod_request({"conditions": [condition("Issued")], "certificateChain": CHAIN, "notBefore": TIME, "notAfter": TIME}), [("status.beginRefreshAt", "Required")]),
    ("VAL-72", MIGRATION, migration(), migration("Running", version="7"), []),
    ("VAL-72", MIGRATION, migration(version="7"), migration(version="8"), [("status.resourceVersion", "Invalid")]),
    ("VAL-72", MIGRATION, migration(), migration(version="x"), [("status.resourceVersion", "Invalid")]),
    ("VAL-72", MIGRATION, migration(version="7"), migration("Running", "Succeeded", version="7"), [("status.conditions", "Invalid")]),
    ("VAL-72", MIGRATION, migration(version="7"), migration("Failed", "Succeeded", version="7"), [("status.conditions", "Invalid")]),
    ("VAL-72", MIGRATION, migration("Succeeded", version="7"), migration(version="7"), [("status.conditions", "Invalid")]),
    ("VAL-72", MIGRATION, migration("Failed", version="7"), migration("Succeeded", version="7"), [("status.conditions", "Invalid")]),
    ("VAL-52", TAINT_RULE, taint_rule(), taint_rule({"conditions": [condition(f"C{number}") for number in range(8)]}), []),
    ("VAL-52", TAINT_RULE, taint_rule(), taint_rule({"conditions": [condition(f"C{number}") for number in range(9)]}), [("status.conditions", "TooMany")]),
    ("VAL-52", CLAIM, allocated(), allocated(consumer()), []),
    ("VAL-52", CLAIM, allocated(), allocated(device="e"), [("status.allocation", "Invalid")]),
    ("VAL-52", CLAIM, allocated(allocation=None), allocated(request="s"), [("status.allocation.devices.results[0].request", "Invalid")]),
    ("VAL-52", CLAIM, allocated(), allocated(consumer(), consumer()), [("status.reservedFor[1].uid", "Duplicate")]),
    ("VAL-52", CLAIM, allocated(), allocated(consumer(""), allocation=None), [("status.reservedFor[0].uid", "Required"), ("status.reservedFor", "Forbidden")]),
    ("VAL-52", CLAIM, allocated(), allocated(*(consumer(str(number)) for number in range(257))), [("status.reservedFor", "TooMany")]),
    ("VAL-68", SCHEMA, schema(), schema("Dangling"), []),
    ("VAL-68", SCHEMA, schema(), schema("A", "A", ""), [("status.conditions[1].type", "Duplicate"), ("status.conditions[2].type", "Required")]),
    ("VAL-29", VOLUME_CLAIM, volume_claim(), volume_claim(capacity={"storage": "1Gi"}, allocatedResourceStatuses={"storage": "NodeResizePending"}), []),
    ("VAL-29", VOLUME_CLAIM, volume_claim(), volume_claim(allocatedResourceStatuses={"storage": "Odd"}), [("status.allocatedResourceStatus", "NotSupported")]),
    ("VAL-29", VOLUME_CLAIM, volume_claim(), volume_claim(capacity={"storage": "-1"}), [("status.capacity[storage]", "Invalid")]),
]  # fmt: skip
