"""Objects that are odd in one way, and the causes that Kubernetes gives for it, as in
val_examples.py."""

from val_examples import CLAIM, DEPLOYMENT, INGRESS, SLICE, S, T, pod, service

COST, MIRROR = "controller.kubernetes.io/pod-deletion-cost", "kubernetes.io/config.mirror"
ARMOR = "container.apparmor.security.beta.kubernetes.io/"
TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"

WEBHOOK = "ValidatingWebhookConfiguration.admissionregistration.k8s.io/v1"
AZURE = {"diskName": "d", "diskURI": "https://x"}


def webhook(**fields):
    client = {"url": "https://127.0.0.1:9/x"}
    hook = {"name": "a.example.com", "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None"}
    return {"webhooks": [{**hook, **fields}]}


def volume(**source):
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **source}}


def iscsi(**fields):
    return volume(iscsi={"targetPortal": "1.2.3.4", "iqn": "iqn.2020-01.a.b:x", "lun": 0, **fields})


def annotated(annotations, **spec):
    return {**pod(**spec), "metadata": {"annotations": annotations}}


def ranges(*cidrs):
    return {"spec": {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}}


def csi(**fields):
    return volume(csi={"driver": "d", "volumeHandle": "h", **fields})


def path(**fields):
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    return {"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": backend, **fields}]}}]}}


SECRET = {"name": "s", "namespace": "n"}

NEW = [
    # upstream has a blank in this path
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {}}}]), [
        ("spec.volumes[0].csi.nodePublishSecretRef .name", "Required"),
    ]),
    # a required pointer may be absent or have a value that is not supported, and "" is one
    ("VAL-30", INGRESS, path(), [("spec.rules[0].http.paths[0].pathType", "Required")]),
    ("VAL-30", INGRESS, path(pathType=""), [("spec.rules[0].http.paths[0].pathType", "NotSupported")]),
    ("HOOK-4", WEBHOOK, webhook(sideEffects=None), [("webhooks[0].sideEffects", "Required")]),
    ("HOOK-4", WEBHOOK, webhook(sideEffects=""), [("webhooks[0].sideEffects", "NotSupported")]),
    ("VAL-24", SLICE, {"addressType": "IPv6", "endpoints": [{"addresses": [address]} for address in ("fd00::1", "ff02::1", "ff05::1", "::1")]}, [
        ("endpoints[1].addresses[0]", "Invalid"), ("endpoints[3].addresses[0]", "Invalid"),
    ]),
    ("VAL-24", SLICE, {"addressType": "IPv4", "endpoints": [{"addresses": ["224.0.0.9"]}, {"addresses": ["224.0.1.9"]}], "ports": [{"name": "UP"}]}, [
        ("ports[0].name", "Invalid"), ("endpoints[0].addresses[0]", "Invalid"),
    ]),
    ("VAL-26", "Node", ranges("10.0.0.0/24", "fd00::/64"), []),
    ("VAL-26", "Node", ranges("10.0.0.0/24", "10.0.1.0/24"), [("spec.podCIDRs", "Invalid")]),
    ("VAL-26", "Node", ranges("10.0.0.0/24", "10.0.0.0/24"), [("spec.podCIDRs[1]", "Duplicate"), ("spec.podCIDRs", "Invalid")]),
    ("VAL-26", "Node", ranges("10.0.0.0/24", "x"), [("spec.podCIDRs[1]", "Invalid"), ("spec.podCIDRs", "InternalError"), ("spec.podCIDRs", "Invalid")]),
    ("VAL-22", "Service", service(loadBalancerClass="a b"), [("spec.loadBalancerClass", "Forbidden")]),
    ("VAL-29", "PersistentVolume", volume(azureDisk=AZURE), []),
    ("VAL-29", "PersistentVolume", volume(azureDisk={**AZURE, "kind": "Managed"}), [("spec.azureDisk.diskURI", "NotSupported")]),
    ("VAL-29", "PersistentVolume", volume(gcePersistentDisk={"pdName": ""}), [("spec.persistentDisk.pdName", "Required")]),
    ("VAL-29", "PersistentVolume", volume(cephfs={"monitors": []}), [("spec.cephfs.monitors", "Required")]),
    ("VAL-29", "PersistentVolume", volume(fc={"targetWWNs": ["a"]}), [("spec.fc.lun", "Required")]),
    ("VAL-29", "PersistentVolume", volume(fc={"targetWWNs": ["a"], "wwids": ["b"]}), [("spec.fc.targetWWNs", "Invalid"), ("spec.fc.lun", "Required")]),
    ("VAL-29", "PersistentVolume", volume(fc={"lun": 500}), [("spec.fc.targetWWNs", "Required")]),
    ("VAL-29", "PersistentVolume", iscsi(secretRef={"name": "s"}), []),
    ("VAL-29", "PersistentVolume", iscsi(iqn="iqn.2020-01.a.b"), [("spec.iscsi.iqn", "Invalid")]),
    ("VAL-29", "PersistentVolume", iscsi(iqn="naa.0123456789abcdef"), [("spec.iscsi.iqn", "Invalid")]),
    ("VAL-29", "PersistentVolume", iscsi(iqn="eui.0123456789abcdez"), []),
    ("VAL-29", "PersistentVolume", iscsi(initiatorName="eui.0123456789abcdef", targetPortal="h" * 63), [("spec.metadata.name", "Invalid")]),
    ("VAL-29", "PersistentVolume", volume(cinder={"volumeID": "v", "secretRef": {"name": "A b"}}), [("spec.cinder.secretRef.namespace", "Required")]),
    ("VAL-29", "PersistentVolume", volume(azureFile={"secretName": "s", "shareName": "x", "secretNamespace": ""}), [
        ("spec.azureFile.secretNamespace", "Required"),
    ]),
    ("VAL-29", "PersistentVolume", volume(nfs={"server": "s", "path": "/x"}, flexVolume={"driver": "", "options": {"Kubernetes.IO/a/b": ""}}), [
        ("spec.flexVolume.driver", "Required"), ("spec.flexVolume.options[Kubernetes.IO/a/b]", "Invalid"),
    ]),
    ("VAL-29", "PersistentVolume", {"spec": {**volume(hostPath={"path": "//."})["spec"], "persistentVolumeReclaimPolicy": "Recycle"}}, [
        ("spec.persistentVolumeReclaimPolicy", "Forbidden"),
    ]),
    *[("VAL-81", "Pod", annotated({COST: cost, "example.com/x": ""}), []) for cost in ("0", "-0", "-5", "-" + "0" * 5000 + "5", "-2147483648")],
    *[("VAL-81", "Pod", annotated({COST: cost}), [(f"metadata.annotations[{COST}]", "Invalid")]) for cost in ("", "-", "+1", "01", "1.5", "2147483648", "-2147483649")],
    ("VAL-81", "Pod", annotated({MIRROR: "x"}), [(f"metadata.annotations[{MIRROR}]", "Invalid")]),
    ("VAL-81", "Pod", annotated({MIRROR: "x"}, nodeName="n"), []),
    ("VAL-81", "Pod", annotated({ARMOR + "c": "runtime/default", ARMOR + "d": "odd"}), [(f"metadata.annotations[{ARMOR}d]", "Invalid")] * 2),
    ("VAL-81", "Pod", annotated({"seccomp.security.alpha.kubernetes.io/pod": "odd"}), [
        ("metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]", "Invalid"),
    ]),
    ("VAL-81", "Pod", annotated({TOLERATIONS: '[{"operator": "Odd", "key": "a"}]'}), [(f"metadata.annotations.{TOLERATIONS}[0].operator", "NotSupported")]),
    ("VAL-81", "Pod", annotated({TOLERATIONS: "{"}), [("metadata.annotations", "Invalid")]),
    ("VAL-81", "Pod", annotated({TOLERATIONS: "7"}), [("metadata.annotations", "Invalid")]),
    ("VAL-81", DEPLOYMENT, {"spec": {"selector": S, "template": {**T, "metadata": {"labels": {"a": "b"}, "annotations": {COST: "x"}}}}}, [
        (f"spec.template.annotations[{COST}]", "Invalid"),
    ]),
    ("VAL-29", "PersistentVolume", volume(azureDisk={**AZURE, "diskURI": "x"}), [("spec.azureDisk.diskURI", "NotSupported")]),
]

CHANGES = [
    ("VAL-81", "Pod", annotated({ARMOR + "c": "unconfined"}), annotated({ARMOR + "c": "runtime/default"}), [(f"metadata.annotations[{ARMOR}c]", "Forbidden")]),
    ("VAL-81", "Pod", annotated({MIRROR: "x"}, nodeName="n"), annotated({"a": "b"}, nodeName="n"), [(f"metadata.annotations[{MIRROR}]", "Forbidden")]),
    ("VAL-81", "Pod", annotated({"a": "b"}), annotated({"a": "b", ARMOR + "d": "unconfined"}), [(f"metadata.annotations[{ARMOR}d]", reason) for reason in ("Forbidden", "Invalid")]),
    ("VAL-81", "Pod", annotated({"a": "b"}), annotated({COST: "2"}), []),
    ("VAL-29", "PersistentVolume", csi(), csi(controllerExpandSecretRef=SECRET), []),
    ("VAL-29", "PersistentVolume", csi(controllerExpandSecretRef=SECRET), csi(), [("spec.persistentvolumesource", "Forbidden")]),
    ("VAL-29", "PersistentVolume", csi(), csi(nodeStageSecretRef=SECRET), [("spec.persistentvolumesource", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM}, {"spec": {**CLAIM, "volumeMode": "Block"}}, [
        ("spec", "Forbidden"), ("volumeMode", "Invalid"),
    ]),
]
