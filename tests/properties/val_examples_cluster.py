"""Objects of storage, networking and certificates that are wrong in one way: see
val_examples.py."""

CLASS, DRIVER, CSI_NODE = "StorageClass.storage.k8s.io/v1", "CSIDriver.storage.k8s.io/v1", "CSINode.storage.k8s.io/v1"
ATTACHMENT, ATTRIBUTES = "VolumeAttachment.storage.k8s.io/v1", "VolumeAttributesClass.storage.k8s.io/v1"
CAPACITY, SIGNING = "CSIStorageCapacity.storage.k8s.io/v1", "CertificateSigningRequest.certificates.k8s.io/v1"
INGRESS, INGRESS_CLASS = "Ingress.networking.k8s.io/v1", "IngressClass.networking.k8s.io/v1"
POLICY, RANGE, ADDRESS = "NetworkPolicy.networking.k8s.io/v1", "ServiceCIDR.networking.k8s.io/v1", "IPAddress.networking.k8s.io/v1"
SLICE, ROLE = "EndpointSlice.discovery.k8s.io/v1", "ClusterRole.rbac.authorization.k8s.io/v1"
REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWk1JR0JBZ0VBTUI4eERUQUxCZ05WQkFvTUJHUmxkbk14RGpB"
    "TUJnTlZCQU1NQldGc2FXTmxNRmt3RXdZSApLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFVTBrMFV1Zm8rN0dqWFdBTDAvVWpR"
    "MGJjRkl3VGJFbUYrdXN4Cmh5MldET3YwUE9zdWdJbVFTc0thbjdKRFlmN1pSdDhDZkNUZTNldjJOaUdjeVh2ZkdxQUFNQW9HQ0Nx"
    "R1NNNDkKQkFNQ0EwY0FNRVFDSURpUXI4Q1lzUkV1MEM1dmhMRTZaNWh2UFZzN1JDdFMrZUZBb1JHUEtoMDhBaUFuZEM5dgpmcDlD"
    "UEZ2dEVZN2VMVmVFaURkcDJPL2xpNUg0QW5OSkw3emdIZz09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo="
)  # of organization devs, for alice
NOT_PEM = "bm90IHBlbQ=="


def volume(**spec):
    return {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], **spec}}


def claim(**spec):
    return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}}


def attachment(**source):
    return {"spec": {"attacher": "d.example", "nodeName": "n", "source": source}}


def signing(**spec):
    return {"spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"], **spec}}


def ingress(**backend):
    return {"spec": {"defaultBackend": backend}}


def peer(**fields):
    return {"spec": {"podSelector": {}, "ingress": [{"from": [fields]}]}}


def wish(**exactly):
    request = {"name": "a", "exactly": {"deviceClassName": "gpu", **exactly}}
    return {"spec": {"devices": {"requests": [request]}}}


def device_slice(**spec):
    return {"spec": {"driver": "d.example", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, **spec}}


def capacious(is_shared=False, value="1", policy=None, name="d"):
    capacity = {"a": {"value": value, **({"requestPolicy": policy} if policy else {})}}
    return {"name": name, "allowMultipleAllocations": is_shared, "capacity": capacity}


DEVICES, DEVICE_CLASS, DEVICE_SLICE = "ResourceClaim.resource.k8s.io/v1", "DeviceClass.resource.k8s.io/v1", "ResourceSlice.resource.k8s.io/v1"
INLINE = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d.example", "volumeHandle": "h"}}
TOPOLOGY = {"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}

SCHEMA, LEVEL = "FlowSchema.flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io/v1"
ANY = ["*"]
EVERY_RESOURCE = {"verbs": ANY, "apiGroups": ANY, "resources": ANY, "namespaces": ANY}


def schema(**rule):
    """A flow schema with one rule, of the group g and every resource but for these fields."""
    rule = {"subjects": [{"kind": "Group", "group": {"name": "g"}}], "resourceRules": [EVERY_RESOURCE]} | rule
    return {"spec": {"matchingPrecedence": 500, "priorityLevelConfiguration": {"name": "workload-low"}, "rules": [rule]}}


def subject(kind, **parts):
    return schema(subjects=[{"kind": kind, **parts}])


def level(**queuing):
    limited = {"limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50} | queuing}}
    return {"spec": {"type": "Limited", "limited": limited}}


FLOW_CONTROL = [
    ("VAL-68", SCHEMA, schema(), []),
    ("VAL-68", SCHEMA, {"spec": {"matchingPrecedence": 1}}, [
        ("spec.matchingPrecedence", "Invalid"), ("spec.priorityLevelConfiguration.name", "Required"),
    ]),
    ("VAL-68", SCHEMA, {"spec": {"matchingPrecedence": 10_001, "priorityLevelConfiguration": {"name": "A"}, "distinguisherMethod": {"type": "x"}}}, [
        ("spec.matchingPrecedence", "Invalid"), ("spec.distinguisherMethod.type", "NotSupported"), ("spec.priorityLevelConfiguration.name", "Invalid"),
    ]),
    ("VAL-68", SCHEMA, schema(subjects=[]), [("spec.rules[0].subjects", "Required")]),
    ("VAL-68", SCHEMA, schema(resourceRules=None), [("spec.rules[0]", "Required")]),
    ("VAL-68", SCHEMA, subject("Robot"), [("spec.rules[0].subjects[0].kind", "NotSupported")]),
    ("VAL-68", SCHEMA, subject("User", group={"name": "g"}), [
        ("spec.rules[0].subjects[0].user", "Required"), ("spec.rules[0].subjects[0].group", "Forbidden"),
    ]),
    ("VAL-68", SCHEMA, subject("User", user={"name": ""}), [("spec.rules[0].subjects[0].user.name", "Required")]),
    ("VAL-68", SCHEMA, subject("Group", group={"name": ""}), [("spec.rules[0].subjects[0].group.name", "Required")]),
    ("VAL-68", SCHEMA, subject("ServiceAccount", serviceAccount={"name": "*", "namespace": "n"}), []),
    ("VAL-68", SCHEMA, subject("ServiceAccount", serviceAccount={"name": "", "namespace": ""}), [
        ("spec.rules[0].subjects[0].serviceAccount.name", "Required"), ("spec.rules[0].subjects[0].serviceAccount.namespace", "Required"),
    ]),
    ("VAL-68", SCHEMA, schema(resourceRules=[{"verbs": ["*", "get"], "apiGroups": ["*", ""], "resources": ["*", "a"], "namespaces": ["*", "n"]}]), [
        (f"spec.rules[0].resourceRules[0].{field}", "Invalid") for field in ("verbs", "apiGroups", "resources", "namespaces")
    ]),
    ("VAL-68", SCHEMA, schema(resourceRules=[{"verbs": ["go"], "apiGroups": [], "resources": []}]), [
        ("spec.rules[0].resourceRules[0].verbs", "NotSupported"), ("spec.rules[0].resourceRules[0].apiGroups", "Required"),
        ("spec.rules[0].resourceRules[0].resources", "Required"), ("spec.rules[0].resourceRules[0].namespaces", "Required"),
    ]),
    ("VAL-68", SCHEMA, schema(nonResourceRules=[{"verbs": [], "nonResourceURLs": ["/", "/a/*", "a", "/a b", "/a//b", "/*/b", ""]}]), [
        ("spec.rules[0].nonResourceRules[0].verbs", "Required"),
        *[(f"spec.rules[0].nonResourceRules[0].nonResourceURLs[{n}]", "Invalid") for n in (2, 3, 4, 5, 6)],
    ]),
    ("VAL-68", SCHEMA, schema(nonResourceRules=[{"verbs": ANY, "nonResourceURLs": []}, {"verbs": ANY, "nonResourceURLs": ["*", "/"]}]), [
        ("spec.rules[0].nonResourceRules[0].nonResourceURLs", "Required"), ("spec.rules[0].nonResourceRules[1].nonResourceURLs", "Invalid"),
    ]),
    ("VAL-68", SCHEMA, {"metadata": {"name": "catch-all"}, **schema()}, [("spec", "Invalid")]),
    ("VAL-68", LEVEL, level(), []),
    ("VAL-68", LEVEL, level(handSize=10), []),
    ("VAL-68", LEVEL, level(handSize=11), [("spec.limited.limitResponse.queuing.handSize", "Invalid")]),
    ("VAL-68", LEVEL, level(queues=4), [("spec.limited.limitResponse.queuing.handSize", "Invalid")]),
    ("VAL-68", LEVEL, level(queues=-1, handSize=-1, queueLengthLimit=-1), [
        (f"spec.limited.limitResponse.queuing.{field}", "Invalid") for field in ("queueLengthLimit", "queues", "handSize")
    ]),
    ("VAL-68", LEVEL, level(queues=10_000_001, handSize=1), [("spec.limited.limitResponse.queuing.queues", "Invalid")]),
    ("VAL-68", LEVEL, {"spec": {"type": "Limited", "exempt": {}}}, [("spec.exempt", "Forbidden"), ("spec.limited", "Required")]),
    ("VAL-68", LEVEL, {"spec": {"type": "Odd"}}, [("spec.type", "NotSupported")]),
    ("VAL-68", LEVEL, {"spec": {"type": "Exempt", "limited": {}}}, [("spec.type", "Invalid"), ("spec.limited", "Forbidden")]),
    ("VAL-68", LEVEL, {"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 7, "lendablePercent": 101}}}, [
        ("spec.exempt.lendablePercent", "Invalid"),
    ]),
    ("VAL-68", LEVEL, {"metadata": {"name": "catch-all"}, **level()}, [("spec", "Invalid")]),
    ("VAL-68", LEVEL, {"spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": -1, "borrowingLimitPercent": -1, "limitResponse": {"type": "Reject", "queuing": {}},
    }}}, [
        ("spec.limited.nominalConcurrencyShares", "Invalid"), ("spec.limited.borrowingLimitPercent", "Invalid"),
        ("spec.limited.limitResponse.queuing", "Forbidden"),
    ]),
    ("VAL-68", LEVEL, {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}}, [
        ("spec.limited.limitResponse.queuing", "Required"),
    ]),
    ("VAL-68", LEVEL, {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "x"}}}}, [
        ("spec.limited.limitResponse.type", "NotSupported"),
    ]),
]  # fmt: skip

NEW = [
    *FLOW_CONTROL,
    # volumes: what each source must say
    ("VAL-29", "PersistentVolume", volume(hostPath={"path": "/x"}), []),
    ("VAL-29", "PersistentVolume", {"spec": {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}, [
        ("spec.capacity", "Required"), ("spec.capacity", "NotSupported"),
    ]),
    ("VAL-29", "PersistentVolume", volume(hostPath={"path": "/x"}, cephfs={"monitors": ["m"]}), [("spec.cephFS", "Forbidden")]),
    ("VAL-29", "PersistentVolume", volume(nfs={"server": "s", "path": "x"}), [("spec.nfs.path", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(csi={"driver": "a b", "volumeHandle": "h"}), [("spec.csi.driver", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(csi={"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}), [
        ("spec.csi.nodePublishSecretRef.namespace", "Required"),
    ]),
    ("VAL-29", "PersistentVolume", volume(iscsi={"targetPortal": "1.2.3.4", "iqn": "x", "lun": 256}), [
        ("spec.iscsi.iqn", "Invalid"), ("spec.iscsi.lun", "Invalid"),
    ]),
    ("VAL-29", "PersistentVolume", volume(quobyte={"registry": "nowhere", "volume": "v"}), [("spec.quobyte.registry", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(flocker={}), [("spec.flocker", "Required")]),
    ("VAL-29", "PersistentVolume", volume(fc={"wwids": ["a"], "targetWWNs": ["b"], "lun": 1}), [("spec.fc.targetWWNs", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(azureDisk={"diskName": "d", "diskURI": "/subscriptions/x", "kind": "Dedicated"}), [
        ("spec.azureDisk.diskURI", "NotSupported"),
    ]),
    ("VAL-29", "PersistentVolume", volume(flexVolume={"driver": "d", "options": {"kubernetes.io/x": "y"}}), [
        ("spec.flexVolume.options[kubernetes.io/x]", "Invalid"),
    ]),
    ("VAL-29", "PersistentVolume", volume(glusterfs={"endpoints": "e", "path": "p", "endpointsNamespace": ""}), [
        ("spec.glusterfs.endpointsNamespace", "Invalid"),
    ]),
    ("VAL-29", "PersistentVolume", volume(storageos={"volumeName": "A"}), [("spec.storageos.volumeName", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(local={"path": "/a/../b"}), [("spec.local.path", "Invalid"), ("spec.nodeAffinity", "Required")]),
    ("VAL-29", "PersistentVolume", volume(hostPath={"path": "/x"}, volumeAttributesClassName=""), [
        ("spec.volumeAttributesClassName", "Required"), ("spec.csi", "Required"),
    ]),
    # claims
    ("VAL-29", "PersistentVolumeClaim", claim(dataSource={"kind": "PersistentVolumeClaim", "name": "c"}), []),
    ("VAL-29", "PersistentVolumeClaim", claim(dataSourceRef={"kind": "Pod", "name": "c"}), [("spec.dataSourceRef", "Invalid")]),
    ("VAL-29", "PersistentVolumeClaim", claim(
        dataSource={"kind": "PersistentVolumeClaim", "name": "c"}, dataSourceRef={"kind": "PersistentVolumeClaim", "name": "d"},
    ), [("spec", "Invalid")]),
    ("VAL-29", "PersistentVolumeClaim", claim(volumeAttributesClassName="A"), [("spec.volumeAttributesClassName", "Invalid")]),
    ("VAL-29", CLASS, {"provisioner": "p", "allowedTopologies": [TOPOLOGY, {}]}, [
        ("allowedTopologies[1].matchLabelExpressions", "Duplicate"), ("allowedTopologies[1].matchLabelExpressions", "Duplicate"),
    ]),
    ("VAL-29", CLASS, {"provisioner": "p", "allowedTopologies": [TOPOLOGY, TOPOLOGY]}, [
        ("allowedTopologies[1].matchLabelExpressions", "Duplicate"),
    ]),
    ("VAL-29", CLASS, {"provisioner": "p", "parameters": {"": "x"}}, [("parameters", "Invalid")]),
    # drivers, nodes, attachments
    ("VAL-50", DRIVER, {"spec": {"fsGroupPolicy": "Some"}}, [("spec.fsGroupPolicy", "NotSupported")]),
    ("VAL-50", DRIVER, {"spec": {"serviceAccountTokenInSecrets": True}}, [("spec.serviceAccountTokenInSecrets", "Invalid")]),
    ("VAL-50", DRIVER, {"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "a", "expirationSeconds": 5}]}}, [
        ("spec.tokenRequests[1].audience", "Duplicate"),
    ]),
    ("VAL-50", DRIVER, {"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}]}}, [
        ("spec.tokenRequests[0].expirationSeconds", "Invalid"),
    ]),
    ("VAL-50", DRIVER, {"spec": {"nodeAllocatableUpdatePeriodSeconds": 9}}, [("spec.nodeAllocatableUpdatePeriodSeconds", "Invalid")]),
    ("VAL-50", CSI_NODE, {"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["zone"]}]}}, []),
    ("VAL-50", CSI_NODE, {"spec": {"drivers": [{"name": "d", "nodeID": ""}, {"name": "d", "nodeID": "x" * 257}]}}, [
        ("spec.drivers[0].nodeID", "Required"), ("spec.drivers[1].nodeID", "Invalid"), ("spec.drivers[1].name", "Duplicate"),
    ]),
    ("VAL-50", CSI_NODE, {"spec": {"drivers": [{"name": "d", "nodeID": "x" * 256, "topologyKeys": ["a", "", "a"]}]}}, [
        ("spec.drivers[0]", "Required"), ("spec.drivers[0]", "Invalid"), ("spec.drivers[0]", "Invalid"), ("spec.drivers[0]", "Duplicate"),
    ]),
    ("VAL-50", CAPACITY, {"storageClassName": "a", "capacity": "1", "maximumVolumeSize": "-1"}, []),
    ("VAL-50", CAPACITY, {"storageClassName": "A", "capacity": "-1"}, [("storageClassName", "Invalid"), ("capacity", "Invalid")]),
    ("VAL-50", ATTACHMENT, attachment(persistentVolumeName="v"), []),
    ("VAL-50", ATTACHMENT, {"spec": {}}, [
        ("spec.attacher", "Required"), ("spec.source", "Required"), ("spec.nodeName", "Invalid"), ("spec.attacher", "Required"),
    ]),
    ("VAL-50", ATTACHMENT, attachment(inlineVolumeSpec=INLINE), []),
    ("VAL-50", ATTACHMENT, attachment(inlineVolumeSpec=INLINE, persistentVolumeName="v"), [("spec.source", "Forbidden")]),
    ("VAL-50", ATTACHMENT, attachment(inlineVolumeSpec={**INLINE, "capacity": {"storage": "1"}, "persistentVolumeReclaimPolicy": "Delete"}), [
        ("spec.source.inlineVolumeSpec.capacity", "Forbidden"), ("spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy", "Forbidden"),
    ]),
    ("VAL-50", ATTRIBUTES, {"driverName": "d"}, [("parameters", "Required")]),
    ("VAL-50", ATTRIBUTES, {"driverName": "Kubernetes.io/os", "parameters": {"a": "b"}}, []),
    ("VAL-50", ATTRIBUTES, {"driverName": "a_", "parameters": {"a": "b"}}, [("driverName", "Invalid")]),
    # certificates
    ("VAL-51", SIGNING, signing(), []),
    ("VAL-51", SIGNING, signing(request=NOT_PEM), [("spec.request", "Invalid")]),
    ("VAL-51", SIGNING, signing(usages=["client auth", "sing", "client auth"]), [
        ("spec.usages[1]", "NotSupported"), ("spec.usages[2]", "Duplicate"),
    ]),
    ("VAL-51", SIGNING, signing(usages=[]), [("spec.usages", "Required")]),
    ("VAL-51", SIGNING, signing(signerName="plain"), [("spec.signerName", "Invalid")]),
    ("VAL-51", SIGNING, signing(signerName="com/path"), [("spec.signerName", "Invalid")]),
    ("VAL-51", SIGNING, signing(signerName="kubernetes.io/legacy-unknown"), [("spec.signerName", "Invalid")]),
    ("VAL-51", SIGNING, signing(expirationSeconds=599), [("spec.expirationSeconds", "Invalid")]),
    # devices
    ("VAL-52", DEVICES, wish(), []),
    ("VAL-52", DEVICES, {"spec": {"devices": {"requests": [{"name": "a"}, {"name": "a", "exactly": {}}]}}}, [
        ("spec.devices.requests[0]", "Required"), ("spec.devices.requests[1].name", "Duplicate"),
        ("spec.devices.requests[1].exactly.deviceClassName", "Required"),
    ]),
    ("VAL-52", DEVICES, wish(allocationMode="All", count=2), [("spec.devices.requests[0].exactly.count", "Invalid")]),
    ("VAL-52", DEVICES, wish(count=-1), [("spec.devices.requests[0].exactly.count", "Invalid")]),
    ("VAL-52", DEVICES, wish(allocationMode="Some"), [("spec.devices.requests[0].exactly.allocationMode", "NotSupported")]),
    ("VAL-52", DEVICES, wish(selectors=[{}]), [("spec.devices.requests[0].exactly.selectors[0].cel", "Required")]),
    ("VAL-52", DEVICES, wish(tolerations=[{"operator": "Exists", "value": "x"}]), [
        ("spec.devices.requests[0].exactly.tolerations[0].value", "Invalid"),
    ]),
    ("VAL-52", DEVICES, {"spec": {"devices": {"requests": [], "constraints": [{"requests": ["x"], "matchAttribute": "y"}]}}}, [
        ("spec.devices.constraints[0].requests[0]", "Invalid"), ("spec.devices.constraints[0].matchAttribute", "Invalid"),
    ]),
    ("VAL-52", DEVICE_CLASS, {"spec": {"config": [{"opaque": {"driver": "d", "parameters": {"a": 1}}}]}}, []),
    ("VAL-52", DEVICE_CLASS, {"spec": {"config": [{"opaque": {"driver": "A_B"}}, {}]}}, [
        ("spec.config[0].opaque.driver", "Invalid"), ("spec.config[0].opaque.parameters", "Required"), ("spec.config[1].opaque", "Required"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[{"name": "d", "attributes": {"a": {"int": 1}}}]), []),
    ("VAL-52", DEVICE_SLICE, device_slice(), [("spec", "Required")]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", allNodes=True), [("spec", "Invalid")]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[{"name": "d"}], sharedCounters=[{"name": "s", "counters": {"m": {"value": "1"}}}]), [
        ("spec", "Invalid"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", sharedCounters=[{"name": "s", "counters": {"M": {"value": "1"}}}, {"name": "s"}, {}]), [
        ("spec.sharedCounters[0].counters[M]", "Invalid"), ("spec.sharedCounters[1].name", "Duplicate"),
        ("spec.sharedCounters[1].counters", "Required"), ("spec.sharedCounters[2].name", "Required"), ("spec.sharedCounters[2].counters", "Required"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", sharedCounters=[{"name": f"s{n}", "counters": {"m": {"value": "1"}}} for n in range(9)]), [
        ("spec.sharedCounters", "TooMany"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[
        {"name": "d", "consumesCounters": [{"counterSet": "s", "counters": {"m": {"value": "1"}}}] * 3},
        {"name": "e", "consumesCounters": [{"counterSet": "S", "counters": {f"m{n}": {"value": "1"} for n in range(33)}}, {}]},
    ]), [
        ("spec.devices[0].consumesCounters", "TooMany"), ("spec.devices[0].consumesCounters[1].counterSet", "Duplicate"), ("spec.devices[0].consumesCounters[2].counterSet", "Duplicate"),
        ("spec.devices[1].consumesCounters[0].counterSet", "Invalid"), ("spec.devices[1].consumesCounters[0].counters", "TooMany"),
        ("spec.devices[1].consumesCounters[1].counterSet", "Required"), ("spec.devices[1].consumesCounters[1].counters", "Required"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[
        {"name": "d", "bindingConditions": ["a", "a", "x y"], "bindingFailureConditions": ["a"]},
        {"name": "e", "bindingConditions": ["a"]},
        {"name": "f", "bindingFailureConditions": ["a"]},
        {"name": "g", "bindingConditions": list("abcde"), "bindingFailureConditions": ["f"]},
    ]), [
        ("spec.devices[0].bindingConditions[1]", "Duplicate"), ("spec.devices[0].bindingConditions[2]", "Invalid"),
        ("spec.devices[0].bindingFailureConditions[0]", "Invalid"), ("spec.devices[1].bindingFailureConditions", "Invalid"),
        ("spec.devices[2].bindingConditions", "Invalid"), ("spec.devices[3].bindingConditions", "TooMany"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[capacious(value="1", policy={"default": "1"})]), [
        ("spec.devices[0].capacity[a].requestPolicy", "Forbidden"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[capacious(True, "8", {"default": "2", "validValues": ["2", "4"]}), capacious(True, "8", {"default": "2", "validRange": {"min": "1", "max": "7", "step": "500m"}}, "e")]), []),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[
        capacious(True, "8", {"validValues": ["2"]}, "a"), capacious(True, "8", {"validRange": {"min": "1"}}, "b"),
        capacious(True, "8", {"default": "1", "validValues": ["1"], "validRange": {"min": "1"}}, "c"),
        capacious(True, "8", {"default": "3", "validValues": ["4", "2", "9", "2"]}, "d"),
        capacious(True, "8", {"default": "1", "validRange": {"min": "2", "max": "9", "step": "2"}}, "e"),
        capacious(True, "8", {"default": "10", "validRange": {"min": "9", "max": "8"}}, "f"),
        capacious(True, "8", {"default": "1", "validRange": {"min": "1", "step": "0"}}, "g"),
        capacious(True, "8", {"default": "1", "validRange": {"min": "1", "step": "8"}}, "h"),
        capacious(True, "11", {"default": "1", "validValues": [str(n) for n in range(1, 12)]}, "i"),
    ]), [
        (f"spec.devices[{n}].capacity[a].requestPolicy{field}", reason)
        for n, field, reason in (
            (0, ".default", "Required"), (1, ".default", "Required"), (2, "", "Forbidden"),
            (3, ".validValues[1]", "Invalid"), (3, ".validValues[2]", "Invalid"), (3, ".validValues[3]", "Invalid"), (3, ".validValues[3]", "Duplicate"), (3, ".validValues", "Invalid"),
            (4, ".validRange.default", "Invalid"), (4, ".validRange.max", "Invalid"), (4, ".validRange.step", "Invalid"), (4, ".validRange.step", "Invalid"),
            (5, ".validRange.min", "Invalid"), (5, ".validRange.max", "Invalid"), (5, ".validRange.default", "Invalid"),
            (6, ".validRange.step", "Invalid"), (7, ".validRange.step", "Invalid"), (8, ".validValues", "TooMany"),
        )
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[{"name": f"d{n}", **({"taints": [{"key": "a", "effect": "None"}]} if n == 0 else {})} for n in range(65)]), [
        ("spec.devices", "TooMany"),
    ]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n", devices=[{"name": "d", "allNodes": True}]), [("spec.devices[0]", "Invalid")]),
    ("VAL-52", DEVICE_SLICE, device_slice(perDeviceNodeSelection=True, devices=[
        {"name": "a"}, {"name": "b", "nodeName": "n"}, {"name": "c", "nodeName": "N", "allNodes": False},
    ]), [
        ("spec.devices[0]", "Required"), ("spec.devices[2]", "Invalid"), ("spec.devices[2].nodeName", "Invalid"), ("spec.devices[2].allNodes", "Invalid"),
    ]),
    ("VAL-52", DEVICES, wish(capacity={"requests": {"1a": "1"}}), [("spec.devices.requests[0].exactly.capacity.requests[1a]", "Invalid")]),
    ("VAL-52", DEVICE_SLICE, device_slice(allNodes=True, devices=[{"name": "d", "attributes": {"1a": {}}}, {"name": "d"}]), [
        ("spec.devices[0].attributes[1a]", "Invalid"), ("spec.devices[0].attributes[1a]", "Required"), ("spec.devices[1].name", "Duplicate"),
    ]),
    # networking
    ("VAL-30", INGRESS, ingress(), [("spec.defaultBackend", "Invalid")]),
    ("VAL-30", INGRESS, ingress(service={"name": "1s", "port": {"number": 80}}), []),
    ("VAL-30", INGRESS, ingress(service={"name": "s", "port": {"number": 80, "name": "web"}}), [("spec.defaultBackend", "Invalid")]),
    ("VAL-30", INGRESS, ingress(resource={"kind": "a/b", "name": ""}), [
        ("spec.defaultBackend.resource.kind", "Invalid"), ("spec.defaultBackend.resource.name", "Required"),
    ]),
    ("VAL-30", INGRESS, {**ingress(service={"name": "s", "port": {"number": 80}}), "metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}}, []),
    ("VAL-30", INGRESS, {"spec": {**ingress(service={"name": "s", "port": {"number": 80}})["spec"], "ingressClassName": "b"}, "metadata": {
        "annotations": {"kubernetes.io/ingress.class": "a"},
    }}, [("annotations.kubernetes.io/ingress.class", "Invalid")]),
    ("VAL-30", INGRESS, {"spec": {"tls": [{"secretName": "A"}], **ingress(service={"name": "s", "port": {"number": 80}})["spec"]}}, [
        ("spec.tls[0].secretName", "Invalid"),
    ]),
    ("VAL-30", INGRESS_CLASS, {"spec": {}}, [("spec.controller", "Required")]),
    ("VAL-30", INGRESS_CLASS, {"spec": {"controller": "a.b/c"}}, []),
    ("VAL-30", INGRESS_CLASS, {"spec": {"controller": "x"}}, [("spec.controller", "Invalid")]),
    ("VAL-30", INGRESS_CLASS, {"spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "10%", "scope": "Namespace"}}}, [
        ("spec.parameters.name", "Invalid"), ("spec.parameters.namespace", "Required"),
    ]),
    ("VAL-30", POLICY, peer(podSelector={}, ipBlock={"cidr": "10.0.0.0/8", "except": ["x"]}), [
        ("spec.ingress[0].from[0]", "Forbidden"), ("spec.ingress[0].from[0].ipBlock.except[0]", "Invalid"),
    ]),
    ("VAL-30", POLICY, {"spec": {"podSelector": {}, "ingress": [{"ports": [{"endPort": 5}]}]}}, [("spec.ingress[0].ports[0].endPort", "Invalid")]),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8", "fd00::/108"]}}, []),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8", "10.5.0.0/16"]}}, [("spec.cidrs", "Invalid")]),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8"] * 3}}, [("spec.cidrs", "Invalid")]),
    ("VAL-26", ADDRESS, {"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "a/b", "name": "10%"}}}, [
        ("spec.parentRef.resource", "Invalid"), ("spec.parentRef.name", "Invalid"),
    ]),
    ("VAL-26", "Node", {"status": {"allocatable": {"memory": "-1"}}}, [("status.allocatable.memory", "Invalid")]),
    ("VAL-24", "Endpoints", {"subsets": [{"addresses": [{"ip": "127.0.0.1", "nodeName": "A"}], "ports": [{"port": 1, "appProtocol": "*"}]}]}, [
        ("subsets[0].addresses[0].nodeName", "Invalid"), ("subsets[0].addresses[0].ip", "Invalid"), ("subsets[0].ports[0].appProtocol", "Invalid"),
    ]),
    ("VAL-24", SLICE, {"addressType": "FQDN", "endpoints": [{"addresses": ["com"]}]}, [("endpoints[0].addresses[0]", "Invalid")]),
    ("VAL-24", SLICE, {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forNodes": [{"name": ""}]}}]}, [
        ("endpoints[0].hints.forNodes[0].name", "Invalid"),
    ]),
    ("VAL-24", SLICE, {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": f"z{n}"} for n in range(9)]}}]}, [
        ("endpoints[0].hints.forZones", "TooMany"),
    ]),
    ("VAL-33", ROLE, {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "x y"}}]}, "rules": []}, [
        ("aggregationRule.clusterRoleSelectors[0].matchLabels", "Invalid"), ("aggregationRule.clusterRoleSelectors[0]", "Invalid"),
    ]),
]

BIG = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
SMALL = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}


def bound(**spec):
    return {"spec": spec, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}


def has_class(**spec):
    made = bound(**spec)
    return {**made, "status": {**made["status"], "currentVolumeAttributesClassName": "a"}}


SOME = {"csi": {"driver": "d", "volumeHandle": "h"}}

CHANGES = [
    ("VAL-29", "PersistentVolumeClaim", bound(**BIG), bound(**SMALL), []),
    ("VAL-29", "PersistentVolumeClaim", bound(**BIG), bound(**claim()["spec"]), [("spec.resources.requests.storage", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", bound(**BIG, volumeAttributesClassName="a"), bound(**BIG), []),
    ("VAL-29", "PersistentVolumeClaim", has_class(**BIG, volumeAttributesClassName="a"), has_class(**BIG), [("spec.volumeAttributesClassName", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", has_class(**BIG, volumeAttributesClassName="a"), has_class(**BIG, volumeAttributesClassName=""), [
        ("spec.volumeAttributesClassName", "Forbidden"),
    ]),
    ("VAL-29", "PersistentVolumeClaim", has_class(**BIG, volumeAttributesClassName="a"), has_class(**BIG, volumeAttributesClassName="b"), []),
    ("VAL-29", "PersistentVolume", volume(**SOME, volumeAttributesClassName="a"), volume(**SOME), [("spec.volumeAttributesClassName", "Forbidden")]),
    ("VAL-29", "PersistentVolume", volume(hostPath={"path": "/x"}), volume(nfs={"server": "s", "path": "/x"}), [("spec.persistentvolumesource", "Forbidden")]),
    ("VAL-29", CLASS, {"provisioner": "p", "parameters": {"a": "b"}}, {"provisioner": "p", "parameters": {"a": "c"}}, [("parameters", "Invalid")]),
    ("VAL-50", DRIVER, {"spec": {"attachRequired": True}}, {"spec": {"attachRequired": False}}, [("spec.attachedRequired", "Invalid")]),
    ("VAL-50", DRIVER, {"spec": {}}, {"spec": {"podInfoOnMount": True, "storageCapacity": True}}, []),
    ("VAL-50", CSI_NODE, {"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}, {"spec": {"drivers": [{"name": "d", "nodeID": "m"}]}}, [("spec.drivers", "Invalid")]),
    ("VAL-50", ATTACHMENT, attachment(persistentVolumeName="v"), attachment(persistentVolumeName="w"), [("spec", "Invalid")]),
    ("VAL-50", ATTRIBUTES, {"driverName": "d", "parameters": {"a": "b"}}, {"driverName": "e", "parameters": {"a": "b"}}, [("driverName", "Forbidden")]),
    ("VAL-50", ATTRIBUTES, {"driverName": "d", "parameters": {"a": "b"}}, {"driverName": "d"}, [("parameters", "Forbidden"), ("parameters", "Required")]),
    ("VAL-50", CAPACITY, {"storageClassName": "a"}, {"storageClassName": "b"}, [("storageClassName", "Invalid")]),
    ("VAL-52", DEVICES, wish(), wish(count=2), [("spec", "Invalid")]),
    ("VAL-52", DEVICE_SLICE, device_slice(nodeName="n"), device_slice(nodeName="m"), [("spec.nodeName", "Invalid")]),
    ("VAL-30", INGRESS_CLASS, {"spec": {"controller": "a.b/c"}}, {"spec": {"controller": "a.b/d"}}, [("spec.controller", "Invalid")]),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8"]}}, {"spec": {"cidrs": ["10.0.0.0/8", "fd00::/108"]}}, []),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8"]}}, {"spec": {"cidrs": ["11.0.0.0/8"]}}, [("spec.cidrs[0]", "Invalid")]),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.0/8", "fd00::/108"]}}, {"spec": {"cidrs": ["10.0.0.0/8"]}}, [("spec.cidrs", "Invalid")]),
]

APPROVED = {"type": "Approved", "status": "True", "reason": "r"}
DENIED = {"type": "Denied", "status": "True", "reason": "r"}
CERTIFICATE = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="


def decided(*conditions, **status):
    return {**signing(), "status": {"conditions": list(conditions), **status}}


STATUSES = [
    ("VAL-50", ATTACHMENT, attachment(persistentVolumeName="v"), {**attachment(persistentVolumeName="v"), "status": {
        "attached": False, "attachError": {"message": "x" * 1025},
    }}, [("status.attachError.message", "TooLong")] * 2),
    ("VAL-51", SIGNING, decided(APPROVED), decided(APPROVED, certificate=CERTIFICATE), []),
    ("VAL-51", SIGNING, decided(), decided(APPROVED), [("status.conditions", "Forbidden")]),
    ("VAL-51", SIGNING, decided(), decided(certificate=NOT_PEM), [("status.certificate", "Invalid")]),
    ("VAL-51", SIGNING, decided(certificate=CERTIFICATE), decided(certificate=NOT_PEM), [("status.certificate", "Forbidden")]),
    ("VAL-30", INGRESS, ingress(), {**ingress(), "status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "1.2.3.4"}]}}}, [
        ("status.loadBalancer.ingress[0].ip", "Invalid"), ("status.loadBalancer.ingress[1].hostname", "Invalid"),
    ]),
]

APPROVALS = [
    (decided(), decided(APPROVED), []),
    (decided(), decided(APPROVED, DENIED), [("status.conditions[1].type", "Invalid")]),
    (decided(), decided({**APPROVED, "status": "False"}), [("status.conditions[0].status", "NotSupported")]),
    (decided(APPROVED), decided(), [("status.conditions", "Forbidden")]),
    (decided(APPROVED), decided(APPROVED, APPROVED), [("status.conditions[1].type", "Duplicate")]),
    (decided(), decided({"type": "", "status": ""}), [("status.conditions[0].type", "Required"), ("status.conditions[0].status", "Required")]),
]
