"""The finalizers that the API server or a controller sets and a controller removes.

Source: Kubernetes documentation, "Finalizers", "Persistent Volumes", "Service ClusterIP
allocation".
"""

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
ATTRIBUTES_CLASS_PROTECTION = "kubernetes.io/vac-protection"
SERVICE_CIDR_PROTECTION = "networking.k8s.io/service-cidr-finalizer"
