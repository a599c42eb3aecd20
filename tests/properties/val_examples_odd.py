"""Objects that are odd in one way, and the causes that Kubernetes gives for it, as in val_examples.py."""

from val_examples import CLAIM, INGRESS, service

WEBHOOK = "ValidatingWebhookConfiguration.admissionregistration.k8s.io/v1"
AZURE = {"diskName": "d", "diskURI": "https://x"}


def webhook(**fields):
    client = {"url": "https://127.0.0.1:9/x"}
    hook = {"name": "a.example.com", "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None"}
    return {"webhooks": [{**hook, **fields}]}


def volume(**source):
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **source}}


def csi(**fields):
    return volume(csi={"driver": "d", "volumeHandle": "h", **fields})


def path(**fields):
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    return {"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": backend, **fields}]}}]}}


SECRET = {"name": "s", "namespace": "n"}

NEW = [
    # a required pointer may be absent or have a value that is not supported, and "" is one
    ("VAL-30", INGRESS, path(), [("spec.rules[0].http.paths[0].pathType", "Required")]),
    ("VAL-30", INGRESS, path(pathType=""), [("spec.rules[0].http.paths[0].pathType", "NotSupported")]),
    ("HOOK-4", WEBHOOK, webhook(sideEffects=None), [("webhooks[0].sideEffects", "Required")]),
    ("HOOK-4", WEBHOOK, webhook(sideEffects=""), [("webhooks[0].sideEffects", "NotSupported")]),
    ("VAL-22", "Service", service(loadBalancerClass="a b"), [("spec.loadBalancerClass", "Forbidden")]),
    ("VAL-29", "PersistentVolume", volume(azureDisk=AZURE), []),
    ("VAL-29", "PersistentVolume", volume(azureDisk={**AZURE, "kind": "Managed"}), [("spec.azureDisk.diskURI", "NotSupported")]),
    ("VAL-29", "PersistentVolume", volume(azureDisk={**AZURE, "diskURI": "x"}), [("spec.azureDisk.diskURI", "NotSupported")]),
]

CHANGES = [
    ("VAL-29", "PersistentVolume", csi(), csi(controllerExpandSecretRef=SECRET), []),
    ("VAL-29", "PersistentVolume", csi(controllerExpandSecretRef=SECRET), csi(), [("spec.persistentvolumesource", "Forbidden")]),
    ("VAL-29", "PersistentVolume", csi(), csi(nodeStageSecretRef=SECRET), [("spec.persistentvolumesource", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM}, {"spec": {**CLAIM, "volumeMode": "Block"}}, [
        ("spec", "Forbidden"), ("volumeMode", "Invalid"),
    ]),
]
