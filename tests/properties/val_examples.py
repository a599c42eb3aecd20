"""Objects that are wrong in one way, and the causes that Kubernetes gives for it: (rule, kind,
fields, causes).

The fields and reasons are those of a real cluster wherever one was asked. An entry without causes
is right, and stands beside one that is not.
"""

C = {"name": "c", "image": "i"}
T = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [C]}}
S = {"matchLabels": {"a": "b"}}
J = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [C]}}


def pod(**spec):
    return {"spec": {"containers": [C], **spec}}


def container(**fields):
    return {"spec": {"containers": [{**C, **fields}]}}


def work(**spec):
    return {"spec": {"selector": S, "template": T, **spec}}


def template(**spec):
    return {"spec": {"selector": S, "template": {"metadata": T["metadata"], "spec": {"containers": [C], **spec}}}}


def service(**spec):
    return {"spec": {"ports": [{"port": 80}], **spec}}


def scaler(**spec):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    return {"spec": {"maxReplicas": 3, "scaleTargetRef": target, **spec}}


def secured(**context):
    return pod(securityContext=context)


def job(**spec):
    return {"spec": {"template": J, **spec}}


DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET = "Deployment.apps/v1", "ReplicaSet.apps/v1", "StatefulSet.apps/v1", "DaemonSet.apps/v1"
JOB, CRON_JOB, SLICE = "Job.batch/v1", "CronJob.batch/v1", "EndpointSlice.discovery.k8s.io/v1"
POLICY, INGRESS = "NetworkPolicy.networking.k8s.io/v1", "Ingress.networking.k8s.io/v1"
BUDGET, AUTOSCALER = "PodDisruptionBudget.policy/v1", "HorizontalPodAutoscaler.autoscaling/v2"
ROLE, BINDING = "Role.rbac.authorization.k8s.io/v1", "RoleBinding.rbac.authorization.k8s.io/v1"
LEASE, PRIORITY_CLASS, STORAGE_CLASS = "Lease.coordination.k8s.io/v1", "PriorityClass.scheduling.k8s.io/v1", "StorageClass.storage.k8s.io/v1"
RUNTIME_CLASS, REVISION, NEW_EVENT = "RuntimeClass.node.k8s.io/v1", "ControllerRevision.apps/v1", "Event.events.k8s.io/v1"
INDEXED = {"completionMode": "Indexed", "completions": 3}
ADDRESS, RANGE = "IPAddress.networking.k8s.io/v1", "ServiceCIDR.networking.k8s.io/v1"

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

NEW = [
    # metadata
    ("VAL-3", "ServiceAccount", {"metadata": {"name": "Robot"}}, [("metadata.name", "Invalid")]),
    ("VAL-3", "Service", {"metadata": {"name": "my.web"}, **service()}, [("metadata.name", "Invalid")]),
    ("VAL-3", "ConfigMap", {"metadata": {"name": "1web"}}, []),
    ("VAL-3", "ConfigMap", {"metadata": {"name": None}}, [("metadata.name", "Required")]),
    ("VAL-3", ROLE, {"metadata": {"name": "system:x"}}, []),
    ("VAL-3", ROLE, {"metadata": {"name": "a/b"}}, [("metadata.name", "Invalid")]),
    ("VAL-3", "Namespace", {"metadata": {"name": "a.b"}}, [("metadata.name", "Invalid")]),
    ("VAL-3", "Namespace", {"metadata": {"namespace": "n"}}, [("metadata.namespace", "Forbidden")]),
    ("VAL-3", "ConfigMap", {"metadata": {"namespace": None}}, [("metadata.namespace", "Required")]),
    ("VAL-3", "ConfigMap", {"metadata": {"generateName": "web-"}}, []),
    ("VAL-3", "ConfigMap", {"metadata": {"generateName": "Web-"}}, [("metadata.generateName", "Invalid")]),
    ("VAL-4", "ConfigMap", {"metadata": {"labels": {"app": "not valid!"}}}, [("metadata.labels", "Invalid")]),
    ("VAL-4", "ConfigMap", {"metadata": {"labels": {"a/b/c": "x"}}}, [("metadata.labels", "Invalid")]),
    ("VAL-4", "ConfigMap", {"metadata": {"annotations": {"bad key": "x"}}}, [("metadata.annotations", "Invalid")]),
    ("VAL-4", "ConfigMap", {"metadata": {"annotations": {"Example.com/Note": "any text, at all!"}}}, []),
    (
        "VAL-4", "ConfigMap", {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": ""}]}},
        [("metadata.ownerReferences.uid", "Invalid")],
    ),
    ("VAL-4", "ConfigMap", {"metadata": {"finalizers": ["mine"]}}, [("metadata.finalizers[0]", "Invalid")]),
    ("VAL-4", "ConfigMap", {"metadata": {"finalizers": ["example.com/mine", "orphan"]}}, []),
    ("VAL-4", LEASE, {"metadata": {"finalizers": ["mine"]}}, []),
    ("VAL-4", RUNTIME_CLASS, {"handler": "h", "metadata": {"finalizers": ["mine"]}}, []),
    ("VAL-4", BUDGET, {"metadata": {"name": None}, "spec": {"minAvailable": -1}}, [("spec.minAvailable", "Invalid")]),
    ("VAL-4", BUDGET, {"metadata": {"name": None}}, [("metadata.name", "Required")]),
    # selectors
    (
        "VAL-6", REPLICA_SET, work(selector={"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
        [("spec.selector.matchExpressions[0].values", "Forbidden"), ("spec.selector", "Invalid")],
    ),
    ("VAL-6", REPLICA_SET, {"spec": {"template": T}}, [("spec.selector", "Required"), ("spec.template.metadata.labels", "Invalid")]),
    ("VAL-6", REPLICA_SET, work(selector={}), [("spec.selector", "Invalid")]),
    ("VAL-6", "ReplicationController", work(selector={"99%": "b"}), [("spec.template.metadata.labels", "Invalid")]),
    ("VAL-6", POLICY, {"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}}, [
        ("spec.podSelector.matchExpressions[0].operator", "Invalid"),
    ]),
    ("VAL-6", "Pod", pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}), [
        ("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", "Required"),
    ]),
    # templates
    ("VAL-7", DEPLOYMENT, work(selector={"matchLabels": {"a": "c"}}), [("spec.template.metadata.labels", "Invalid")]),
    ("VAL-7", DEPLOYMENT, template(restartPolicy="Never"), [("spec.template.spec.restartPolicy", "NotSupported")]),
    ("VAL-7", DAEMON_SET, template(restartPolicy="OnFailure"), [("spec.template.spec.restartPolicy", "NotSupported")]),
    ("VAL-7", REPLICA_SET, template(activeDeadlineSeconds=3), [("spec.template.spec.activeDeadlineSeconds", "Forbidden")]),
    ("VAL-7", DEPLOYMENT, template(containers=[]), [("spec.template.spec.containers", "Required")]),
    ("VAL-7", DEPLOYMENT, work(replicas=-1), [("spec.replicas", "Invalid")]),
    ("VAL-7", "ReplicationController", {"spec": {"replicas": -1, "template": T}}, [("spec.replicas", "Invalid")]),
    ("VAL-7", STATEFUL_SET, work(podManagementPolicy="Sometimes"), [("spec.podManagementPolicy", "Invalid")]),
    # containers
    ("VAL-8", "Pod", pod(containers=[]), [("spec.containers", "Required")]),
    ("VAL-8", "Pod", pod(containers=[C, C]), [("spec.containers[1].name", "Duplicate")]),
    ("VAL-8", "Pod", pod(initContainers=[C]), [("spec.initContainers[0].name", "Duplicate")]),
    ("VAL-8", "Pod", container(name="Bad_Name"), [("spec.containers[0].name", "Invalid")]),
    ("VAL-8", "Pod", pod(initContainers=[{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]), [
        ("spec.initContainers[0].readinessProbe", "Forbidden"),
    ]),
    ("VAL-8", "Pod", pod(initContainers=[
        {"name": "i", "image": "i", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 1}}},
    ]), []),
    ("VAL-9", "Pod", pod(containers=[{"name": "c"}]), [("spec.containers[0].image", "Required")]),
    ("VAL-9", "Pod", container(image=" i"), [("spec.containers[0].image", "Invalid")]),
    ("VAL-9", "Pod", container(imagePullPolicy="Sometimes"), [("spec.containers[0].imagePullPolicy", "NotSupported")]),
    ("VAL-9", "Pod", pod(restartPolicy="Sometimes"), [("spec.restartPolicy", "NotSupported")]),
    ("VAL-9", "Pod", pod(dnsPolicy="Magic"), [("spec.dnsPolicy", "NotSupported")]),
    ("VAL-9", "Pod", pod(dnsPolicy="None"), [("spec.dnsConfig", "Required")]),
    ("VAL-9", "Pod", container(livenessProbe={"successThreshold": 2, "exec": {"command": ["x"]}}), [
        ("spec.containers[0].livenessProbe.successThreshold", "Invalid"),
    ]),
    ("VAL-9", "Pod", container(readinessProbe={"successThreshold": 2, "exec": {"command": ["x"]}}), []),
    ("VAL-9", "Pod", container(readinessProbe={}), [("spec.containers[0].readinessProbe", "Required")]),
    ("VAL-9", "Pod", container(readinessProbe={"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}), [
        ("spec.containers[0].readinessProbe.tcpSocket", "Forbidden"),
    ]),
    ("VAL-9", "Pod", container(lifecycle={"preStop": {"sleep": {"seconds": 31}}}), [("spec.containers[0].lifecycle.preStop.sleep", "Invalid")]),
    ("VAL-9", "Pod", container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}), [
        ("spec.containers[0].securityContext", "Invalid"),
    ]),
    ("VAL-9", "Pod", pod(securityContext={"runAsUser": -1}), [("spec.securityContext.runAsUser", "Invalid")]),
    # ports
    ("VAL-10", "Pod", container(ports=[{"containerPort": 70000}]), [("spec.containers[0].ports[0].containerPort", "Invalid")]),
    ("VAL-10", "Pod", container(ports=[{"containerPort": 80, "name": "web"}, {"containerPort": 81, "name": "web"}]), [
        ("spec.containers[0].ports[1].name", "Duplicate"),
    ]),
    ("VAL-10", "Pod", container(ports=[{"containerPort": 80, "protocol": "ICMP"}]), [("spec.containers[0].ports[0].protocol", "NotSupported")]),
    ("VAL-10", "Pod", pod(containers=[
        {**C, "ports": [{"containerPort": 80, "hostPort": 8080}]}, {**C, "name": "d", "ports": [{"containerPort": 81, "hostPort": 8080}]},
    ]), [("spec.containers[1].ports[0].hostPort", "Duplicate")]),
    ("VAL-10", "Pod", {"spec": {"hostNetwork": True, "containers": [{**C, "ports": [{"containerPort": 80, "hostPort": 8080}]}]}}, [
        ("spec.containers[0].ports[0].hostPort", "Invalid"),
    ]),
    ("VAL-10", "Pod", container(ports=[{"containerPort": 80, "name": "much-too-long-a-name"}]), [("spec.containers[0].ports[0].name", "Invalid")]),
    # mounts
    ("VAL-11", "Pod", container(volumeMounts=[{"name": "none", "mountPath": "/x"}]), [("spec.containers[0].volumeMounts[0].name", "NotFound")]),
    ("VAL-11", "Pod", {"spec": {"volumes": [{"name": "v"}], "containers": [
        {**C, "volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]},
    ]}}, [("spec.containers[0].volumeMounts[1].mountPath", "Invalid")]),
    ("VAL-11", "Pod", {"spec": {"volumes": [{"name": "v"}], "containers": [
        {**C, "volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "../y"}]},
    ]}}, [("spec.containers[0].volumeMounts.subPath", "Invalid")]),
    # resources
    ("VAL-12", "Pod", container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}), [
        ("spec.containers[0].resources.requests", "Invalid"),
    ]),
    ("VAL-12", "Pod", container(resources={"requests": {"memory": "-1Mi"}}), [("spec.containers[0].resources.requests[memory]", "Invalid")]),
    ("VAL-12", "Pod", container(resources={"requests": {"apples": "1"}}), [("spec.containers[0].resources.requests[apples]", "Invalid")] * 2),
    ("VAL-12", "Pod", container(resources={"requests": {"example.com/gpu": "1"}}), [("spec.containers[0].resources.limits", "Required")]),
    ("VAL-12", "Pod", container(resources={"limits": {"example.com/gpu": "1"}}), []),
    ("VAL-12", "Pod", container(resources={"limits": {"example.com/gpu": "500m"}}), [
        ("spec.containers[0].resources.limits[example.com/gpu]", "Invalid"), ("spec.containers[0].resources.requests[example.com/gpu]", "Invalid"),
    ]),
    # taints and tolerations
    ("VAL-13", "Node", {"spec": {"taints": [{"key": "a", "effect": "Never"}]}}, [("metadata.taints[0].effect", "NotSupported")]),
    ("VAL-13", "Node", {"spec": {"taints": [{"key": "a"}]}}, [("metadata.taints[0].effect", "Required")]),
    ("VAL-13", "Node", {"spec": {"taints": [
        {"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "a", "value": "c", "effect": "NoSchedule"},
    ]}}, [("metadata.taints[1]", "Duplicate")]),
    ("VAL-13", "Pod", pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), [("spec.tolerations[0].operator", "Invalid")]),
    ("VAL-13", "Pod", pod(tolerations=[{"operator": "Equal"}]), [("spec.tolerations[0].operator", "Invalid")]),
    ("VAL-13", "Pod", pod(tolerations=[{"operator": "Exists"}]), []),
    ("VAL-13", "Pod", pod(tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]), [("spec.tolerations[0].effect", "Invalid")]),
    ("VAL-13", "Pod", pod(tolerations=[{"key": "a", "operator": "Gt", "value": "5"}]), [("spec.tolerations[0].operator", "NotSupported")]),
    # affinity and spreading
    ("VAL-14", "Pod", pod(affinity={"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}},
    ]}}), [("spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight", "Invalid")]),
    ("VAL-14", "Pod", pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]), [
        ("spec.topologySpreadConstraints[0].maxSkew", "Invalid"),
    ]),
    ("VAL-14", "Pod", pod(topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Maybe"}]), [
        ("spec.topologySpreadConstraints[0].whenUnsatisfiable", "NotSupported"),
    ]),
    # volumes
    ("VAL-15", "Pod", pod(volumes=[{"name": "v"}, {"name": "v"}]), [("spec.volumes[1].name", "Duplicate")]),
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]), [("spec.volumes[0].hostPath", "Forbidden")]),
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "secret": {"secretName": "s", "defaultMode": 512}}]), [
        ("spec.volumes[0].secret.defaultMode", "Invalid"),
    ]),
    ("VAL-15", "Pod", pod(serviceAccountName="s", volumes=[
        {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}},
    ]), [("spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds", "Invalid")]),
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "projected": {"sources": [
        {"secret": {"name": "a", "items": [{"key": "k", "path": "same"}]}}, {"secret": {"name": "b", "items": [{"key": "k", "path": "same"}]}},
    ]}}]), [("spec.volumes[0].projected", "Invalid")]),
    # environment
    ("VAL-16", "Pod", container(env=[{"name": "A=B", "value": "x"}]), [("spec.containers[0].env[0].name", "Invalid")]),
    ("VAL-16", "Pod", container(env=[{"name": "A", "valueFrom": {}}]), [("spec.containers[0].env[0].valueFrom", "Invalid")]),
    ("VAL-16", "Pod", container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]), [
        ("spec.containers[0].env[0].valueFrom.fieldRef.fieldPath", "Invalid"),
    ]),
    ("VAL-16", "Pod", container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}}]), []),
    ("VAL-16", "Pod", container(envFrom=[{"configMapRef": {"name": ""}}]), [("spec.containers[0].envFrom[0].configMapRef.name", "Required")]),
    ("VAL-17", "Pod", pod(ephemeralContainers=[{"name": "e", "image": "i"}]), [("spec.ephemeralContainers", "Forbidden")]),
    ("VAL-17", "Pod", pod(nodeName="n", schedulingGates=[{"name": "a.b/c"}]), [("spec.nodeName", "Forbidden")]),
    # rolling updates
    ("VAL-19", DEPLOYMENT, work(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}), [
        ("spec.strategy.rollingUpdate.maxUnavailable", "Invalid"),
    ]),
    ("VAL-19", DEPLOYMENT, work(strategy={"rollingUpdate": {"maxUnavailable": "101%"}}), [("spec.strategy.rollingUpdate.maxUnavailable", "Invalid")]),
    ("VAL-19", DEPLOYMENT, work(strategy={"rollingUpdate": {"maxSurge": "some"}}), [("spec.strategy.rollingUpdate.maxSurge", "Invalid")]),
    ("VAL-19", DEPLOYMENT, work(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}), [("spec.strategy.rollingUpdate", "Forbidden")]),
    ("VAL-19", DEPLOYMENT, work(progressDeadlineSeconds=5, minReadySeconds=5), [("spec.progressDeadlineSeconds", "Invalid")]),
    ("VAL-19", DAEMON_SET, work(updateStrategy={"rollingUpdate": {"maxSurge": 1}}), [("spec.updateStrategy.rollingUpdate.maxSurge", "Invalid")]),
    # services
    ("VAL-22", "Service", {"spec": {"selector": {"a": "b"}}}, [("spec.ports", "Required")]),
    ("VAL-22", "Service", {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}, []),
    ("VAL-22", "Service", {"spec": {"type": "ExternalName"}}, [("spec.externalName", "Required")]),
    ("VAL-22", "Service", {"spec": {"type": "ExternalName", "externalName": "not a name"}}, [("spec.externalName", "Invalid")]),
    ("VAL-22", "Service", service(externalTrafficPolicy="Local"), [("spec.externalTrafficPolicy", "Invalid")]),
    ("VAL-22", "Service", service(type="Magic"), [("spec.type", "NotSupported")]),
    ("VAL-22", "Service", service(ports=[{"port": 80}, {"port": 81, "name": "b"}]), [("spec.ports[0].name", "Required")]),
    ("VAL-22", "Service", service(ports=[{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]), [("spec.ports[1]", "Duplicate")]),
    ("VAL-22", "Service", service(ports=[{"port": 80, "nodePort": 30000}]), [("spec.ports[0].nodePort", "Forbidden")]),
    ("VAL-22", "Service", service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}), [
        ("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "Invalid"),
    ]),
    ("VAL-23", "Service", service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1", "10.0.0.2"]), [("spec.clusterIPs", "Invalid")]),
    ("VAL-23", "Service", service(clusterIP="x", clusterIPs=["x"]), [("spec.clusterIPs[0]", "Invalid")]),
    ("VAL-23", "Service", service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.2"]), [("spec.clusterIPs", "Invalid")]),
    # endpoints
    ("VAL-24", "Endpoints", {"subsets": [{"addresses": [{"ip": "10.1.0.9"}], "ports": [{"port": 80}, {"port": 81}]}]}, [
        ("subsets[0].ports[0].name", "Required"), ("subsets[0].ports[1].name", "Required"),
    ]),
    ("VAL-24", "Endpoints", {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]}, [("subsets[0].addresses[0].ip", "Invalid")]),
    ("VAL-24", SLICE, {"addressType": "IPv4", "endpoints": [{"addresses": ["fe80::1"]}]}, [("endpoints[0].addresses", "Invalid"), ("endpoints[0].addresses[0]", "Invalid")]),
    ("VAL-24", SLICE, {"addressType": "Post", "endpoints": []}, [("addressType", "NotSupported")]),
    # the cluster
    ("VAL-25", "Namespace", {"spec": {"finalizers": ["mine"]}}, [("spec.finalizers", "Invalid")]),
    ("VAL-26", PRIORITY_CLASS, {"value": 1_000_000_001}, [("value", "Forbidden")]),
    ("VAL-26", PRIORITY_CLASS, {"metadata": {"name": "system-mine"}, "value": 1}, [("metadata.name", "Forbidden")]),
    ("VAL-26", PRIORITY_CLASS, {"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}, []),
    ("VAL-26", LEASE, {"spec": {"leaseDurationSeconds": 0}}, [("spec.leaseDurationSeconds", "Invalid")]),
    ("VAL-26", LEASE, {"spec": {"leaseTransitions": -1}}, [("spec.leaseTransitions", "Invalid")]),
    ("VAL-26", "Event", {"involvedObject": {"namespace": "other"}}, [("involvedObject.namespace", "Invalid")]),
    ("VAL-26", "LimitRange", {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}, [
        ("spec.limits[0].min[cpu]", "Invalid"), ("spec.limits[0].defaultRequest[cpu]", "Invalid"), ("spec.limits[0].default[cpu]", "Invalid"),
    ]),
    ("VAL-26", "LimitRange", {"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}, [("spec.limits[0].default", "Forbidden")]),
    ("VAL-26", "LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}, {"type": "Container", "max": {"cpu": "2"}}]}}, [
        ("spec.limits[1].type", "Duplicate"),
    ]),
    ("VAL-26", ADDRESS, {"metadata": {"name": "::01"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}}, [("metadata.name", "Invalid")]),
    ("VAL-26", RANGE, {"spec": {"cidrs": ["10.0.0.1/8"]}}, [("spec.cidrs[0]", "Invalid")]),
    # config
    ("VAL-27", "ConfigMap", {"data": {"k": "x"}, "binaryData": {"k": "AAEC"}}, [("data[k]", "Invalid")]),
    ("VAL-27", "ConfigMap", {"data": {"a key": "x"}}, [("data[a key]", "Invalid")]),
    ("VAL-27", "ConfigMap", {"data": {"k": "x" * (1024 * 1024 + 1)}}, [("[]", "TooLong")]),
    ("VAL-27", "Secret", {"data": {"bad/key": "b2xk"}}, [("data[bad/key]", "Invalid")]),
    ("VAL-27", "Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": "b2xk"}}, [("data[tls.key]", "Required")]),
    # jobs
    ("VAL-28", JOB, {"spec": {"manualSelector": True, "template": J}}, [("spec.selector", "Required"), ("spec.template.metadata.labels", "Invalid")]),
    ("VAL-28", JOB, job(parallelism=-1), [("spec.parallelism", "Invalid")]),
    ("VAL-28", JOB, job(backoffLimit=-1, activeDeadlineSeconds=-1), [("spec.activeDeadlineSeconds", "Invalid"), ("spec.backoffLimit", "Invalid")]),
    ("VAL-28", JOB, {"spec": {"template": T}}, [("spec.template.spec.restartPolicy", "Required")]),
    ("VAL-28", JOB, job(completionMode="Indexed", parallelism=1), [("spec.completions", "Required")]),
    ("VAL-28", CRON_JOB, {"spec": {"schedule": "60 * * * *", "jobTemplate": {"spec": {"template": J}}}}, [("spec.schedule", "Invalid")]),
    ("VAL-28", CRON_JOB, {"spec": {"schedule": "@hourly", "jobTemplate": {"spec": {"template": J}}}}, []),
    # storage
    ("VAL-29", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}, [("spec", "Required")]),
    (
        "VAL-29", "PersistentVolume", {"spec": {"capacity": {"cpu": "1"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}},
        [("spec.capacity", "NotSupported")],
    ),
    ("VAL-29", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}, [("spec.accessModes", "Required")]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": {"accessModes": ["ReadWriteOnce"]}}, [("spec.resources[storage]", "Required")]),
    ("VAL-29", STORAGE_CLASS, {"provisioner": ""}, [("provisioner", "Required")]),
    # networking
    ("VAL-30", INGRESS, {"spec": {}}, [("spec", "Invalid")]),
    ("VAL-30", INGRESS, {"spec": {"rules": [{"http": {"paths": [
        {"path": "/", "backend": {"service": {"name": "s", "port": {"number": 80}}}},
    ]}}]}}, [("spec.rules[0].http.paths[0].pathType", "Required")]),
    ("VAL-30", INGRESS, {"spec": {"rules": [{"host": "10.0.0.1", "http": {"paths": [
        {"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {}}}},
    ]}}]}}, [
        ("spec.rules[0].host", "Invalid"), ("spec.rules[0].http.paths[0].path", "Invalid"),
        ("spec.rules[0].http.paths[0].backend", "Required"),
    ]),
    ("VAL-30", POLICY, {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}}, [
        ("spec.ingress[0].from[0].ipBlock.except[0]", "Invalid"),
    ]),
    ("VAL-30", POLICY, {"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}, [("spec.ingress[0].from[0]", "Required")]),
    # policy
    ("VAL-31", BUDGET, {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, [("spec", "Invalid")]),
    ("VAL-31", BUDGET, {"spec": {"minAvailable": "101%"}}, [("spec.minAvailable", "Invalid")]),
    ("VAL-32", AUTOSCALER, {"spec": {"minReplicas": 5, "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}, [
        ("spec.maxReplicas", "Invalid"),
    ]),
    ("VAL-32", AUTOSCALER, {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": ""}}}, [
        ("spec.scaleTargetRef.name", "Required"), ("spec.scaleTargetRef.apiVersion", "Invalid"),
    ]),
    ("VAL-32", AUTOSCALER, scaler(minReplicas=0), [("spec.minReplicas", "Invalid"), ("spec.metrics", "Forbidden")]),
    ("VAL-32", AUTOSCALER, scaler(maxReplicas=0), [("spec.maxReplicas", "Required"), ("spec.maxReplicas", "Invalid")]),
    ("VAL-32", AUTOSCALER, scaler(metrics=[{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}}]), [
        ("spec.metrics[0].pods", "Required"),
    ]),
    ("VAL-32", AUTOSCALER, scaler(behavior={"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]}}), [
        ("spec.behavior.scaleUp.policies[0].value", "Invalid"), ("spec.behavior.scaleUp.policies[0].periodSeconds", "Invalid"),
    ]),
    # security
    ("VAL-60", "Pod", secured(sysctls=[{"name": "a b", "value": "1"}]), [("spec.securityContext.sysctls[0].name", "Invalid")]),
    ("VAL-60", "Pod", secured(sysctls=[{"name": "net/ipv4.x", "value": "1"}]), []),
    ("VAL-60", "Pod", pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net.ipv4.x", "value": "1"}]}), [
        ("spec.securityContext.sysctls[0].name", "Invalid"),
    ]),
    ("VAL-60", "Pod", secured(seccompProfile={"type": "Localhost", "localhostProfile": "../x"}), [
        ("spec.securityContext.seccompProfile.localhostProfile", "Invalid"),
    ]),
    ("VAL-60", "Pod", secured(appArmorProfile={"type": "Odd"}), [("spec.securityContext.appArmorProfile.type", "NotSupported")]),
    ("VAL-60", "Pod", container(securityContext={"procMount": "Unmasked"}), [("spec.containers[0].securityContext.procMount", "Invalid")]),
    ("VAL-60", "Pod", {"spec": {"hostUsers": False, **container(securityContext={"procMount": "Unmasked"})["spec"]}}, []),
    ("VAL-60", "Pod", pod(os={"name": "linux"}, securityContext={"windowsOptions": {"runAsUserName": "d\\u"}}), [
        ("spec.securityContext.windowsOptions", "Forbidden"),
    ]),
    ("VAL-60", "Pod", pod(os={"name": "windows"}, securityContext={"runAsUser": 1}), [("spec.securityContext.runAsUser", "Forbidden")]),
    ("VAL-60", "Pod", pod(os={"name": "plan9"}), [("spec.os", "NotSupported")]),
    ("VAL-60", "Pod", secured(windowsOptions={"hostProcess": True}), [("spec.hostNetwork", "Invalid")]),
    # restarts and resizes
    ("VAL-61", "Pod", container(restartPolicyRules=[{"action": "Odd"}]), [
        ("spec.containers[0].restartPolicy", "Required"), ("spec.containers[0].restartPolicyRules[0].action", "NotSupported"),
        ("spec.containers[0].restartPolicyRules[0].exitCodes", "Required"),
    ]),
    ("VAL-61", "Pod", container(resizePolicy=[{"resourceName": "disk", "restartPolicy": "NotRequired"}]), [
        ("spec.containers[0].resizePolicy", "NotSupported"),
    ]),
    # claims of a stateful set are volumes of its pods
    ("VAL-7", STATEFUL_SET, {"spec": {"selector": S, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": CLAIM}], "template": {
        "metadata": T["metadata"], "spec": {"containers": [{**C, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]},
    }}}, []),
    ("VAL-7", STATEFUL_SET, work(volumeClaimTemplates=[{"metadata": {"name": "data"}}]), [
        ("spec.volumeClaimTemplates[0].spec.accessModes", "Required"), ("spec.volumeClaimTemplates[0].spec.resources[storage]", "Required"),
    ]),
    ("VAL-62", REVISION, {"revision": -1}, [("revision", "Invalid"), ("data", "Required")]),
    ("VAL-62", REVISION, {"data": "text"}, [("data", "Required")]),
    # limits and quotas
    ("VAL-63", "LimitRange", {"spec": {"limits": [{"type": "Sidecar"}]}}, [("spec.limits[0].type", "Invalid")]),
    ("VAL-63", "LimitRange", {"spec": {"limits": [{"type": "Pod", "max": {"weight": "1"}}]}}, [("spec.limits[0].max[weight]", "Invalid")] * 2),
    ("VAL-63", "LimitRange", {"spec": {"limits": [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]}}, [
        ("spec.limits[0].maxLimitRequestRatio[cpu]", "Invalid"),
    ]),
    ("VAL-64", "ResourceQuota", {"spec": {"scopes": ["Odd"]}}, [("spec.scopes", "Invalid")]),
    ("VAL-64", "ResourceQuota", {"spec": {"hard": {"services": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}}, [("spec.scopes", "Invalid")] * 3),
    ("VAL-64", "ResourceQuota", {"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}}, [
        ("spec.scopeSelector.matchExpressions.values", "Required"),
    ]),
    ("VAL-64", "ResourceQuota", {"spec": {"hard": {"requests.example.com/gpu": "1", "count/jobs.batch": "1"}}}, []),
    # events
    ("VAL-65", "Event", {"involvedObject": {"namespace": "other"}}, [("involvedObject.namespace", "Invalid")]),
    ("VAL-65", "Event", {"involvedObject": {"namespace": "n"}, "type": "Odd"}, []),
    ("VAL-65", "Event", {"involvedObject": {"namespace": "n"}, "eventTime": "2020-01-01T00:00:00.000000Z", "reportingComponent": "a", "reportingInstance": "a"}, [
        ("action", "Required"), ("reason", "Required"),
    ]),
    # runtime classes
    ("VAL-66", RUNTIME_CLASS, {"handler": ""}, [("handler", "Required")]),
    ("VAL-66", RUNTIME_CLASS, {"handler": "h", "scheduling": {"tolerations": [{"operator": "Exists"}] * 2}}, [
        ("scheduling.tolerations[1]", "Duplicate"),
    ]),
    # policies of jobs
    ("VAL-67", JOB, job(podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 1, 0]}}]}), [
        ("spec.podFailurePolicy.rules[0].onExitCodes.values[2]", "Invalid"), ("spec.podFailurePolicy.rules[0].onExitCodes.values", "Invalid"),
    ]),
    ("VAL-67", JOB, job(successPolicy={"rules": [{"succeededCount": 1}]}), [("spec.successPolicy", "Invalid")]),
    ("VAL-67", JOB, job(**INDEXED, successPolicy={"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]}), [
        ("spec.successPolicy.rules[0].succeededCount", "Invalid"),
    ]),
    ("VAL-28", JOB, job(maxFailedIndexes=1), [("spec.backoffLimitPerIndex", "Required"), ("spec.maxFailedIndexes", "Invalid")]),
    ("VAL-28", JOB, job(managedBy="nodomain"), [("spec.managedBy", "Invalid")]),
    ("VAL-28", CRON_JOB, {"spec": {"schedule": "@daily", "timeZone": "Mars/Base", "jobTemplate": job()}}, [("spec.timeZone", "Invalid")]),
    ("VAL-12", "Pod", pod(resources={"requests": {"cpu": "1"}}, containers=[{**C, "resources": {"requests": {"cpu": "2"}}}]), [
        ("spec.resources.requests[cpu]", "Invalid"),
    ]),
    ("VAL-12", "Pod", container(resources={"claims": [{"name": "gpu"}]}), [("spec.containers[0].resources.claims[0]", "NotFound")]),
    ("VAL-12", "Pod", container(resources={"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}), [
        ("spec.containers[0].resources.limits[hugepages-2Mi]", "Invalid"), ("spec.containers[0].resources.requests[hugepages-2Mi]", "Invalid"),
    ]),
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": CLAIM}}}]), [
        ("spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name", "Forbidden"),
    ]),
    ("VAL-15", "Pod", pod(volumes=[{"name": "v", "csi": {"driver": "a b"}}]), [("spec.volumes[0].csi.driver", "Invalid")]),
    ("VAL-33", ROLE, {"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]}, [("rules[0].verbs", "Required")]),
    ("VAL-33", ROLE, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, [("rules[0].nonResourceURLs", "Invalid")]),
    ("VAL-33", BINDING, {"roleRef": {"kind": "Rule", "name": "r"}}, [("roleRef.kind", "NotSupported")]),
]

BIGGER = {**CLAIM, "resources": {"requests": {"storage": "2Gi"}}}
BOUND = {"phase": "Bound"}

CHANGES = [
    ("VAL-5", "ConfigMap", {}, {"metadata": {"uid": "other"}}, [("metadata.uid", "Invalid")] * 2),
    ("VAL-5", "ConfigMap", {}, {"metadata": {"labels": {"a": "-x"}}}, [("metadata.labels", "Invalid")] * 4),
    ("VAL-5", DEPLOYMENT, work(), {"metadata": {"labels": {"a": "-x"}}, **work()}, [("metadata.labels", "Invalid")] * 3),
    ("VAL-5", "ConfigMap", {}, {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}, [("metadata.deletionTimestamp", "Invalid")] * 2),
    ("VAL-5", "ConfigMap", {}, {"metadata": {"deletionGracePeriodSeconds": 5}}, [("metadata.deletionGracePeriodSeconds", "Invalid")] * 2),
    ("VAL-5", "ConfigMap", {"metadata": {"generation": 3}}, {"metadata": {"generation": 2}}, [("metadata.generation", "Invalid")] * 2),
    ("VAL-62", REVISION, {"data": {"a": 1}}, {"data": {"a": 2}, "revision": 5}, [("data", "Invalid")]),
    ("VAL-66", RUNTIME_CLASS, {"handler": "h"}, {"handler": "i"}, [("handler", "Invalid")]),
    ("VAL-66", RUNTIME_CLASS, {"handler": "h"}, {"handler": "h", "scheduling": {"tolerations": [{"operator": "Exists", "tolerationSeconds": 3}]}}, [
        ("scheduling.tolerations[0].effect", "Invalid"),
    ]),
    ("VAL-64", "ResourceQuota", {"spec": {"scopes": ["BestEffort"]}}, {"spec": {}}, [("spec.scopes", "Invalid")]),
    ("VAL-17", "Pod", pod(), container(command=["x"]), [("spec", "Forbidden")]),
    ("VAL-17", "Pod", pod(), container(image="j"), []),
    ("VAL-17", "Pod", pod(), pod(containers=[C, {"name": "d", "image": "i"}]), [("spec.containers", "Forbidden")]),
    ("VAL-17", "Pod", pod(), pod(tolerations=[{"key": "a", "operator": "Exists"}]), []),
    ("VAL-17", "Pod", pod(tolerations=[{"key": "a", "operator": "Exists"}]), pod(), [("spec.tolerations", "Forbidden")]),
    ("VAL-17", "Pod", pod(schedulingGates=[{"name": "a.b/c"}]), pod(), []),
    ("VAL-17", "Pod", pod(schedulingGates=[{"name": "a.b/c"}]), pod(nodeSelector={"a": "b"}), []),
    ("VAL-17", "Pod", pod(), pod(nodeSelector={"a": "b"}), [("spec", "Forbidden")]),
    ("VAL-17", "Pod", pod(), pod(schedulingGates=[{"name": "a.b/c"}]), [("spec.schedulingGates[0].name", "Forbidden")]),
    ("VAL-20", DEPLOYMENT, work(), {"spec": {
        "selector": {"matchLabels": {"a": "c"}}, "template": {**T, "metadata": {"labels": {"a": "c"}}},
    }}, [("spec.selector", "Invalid")]),
    ("VAL-20", STATEFUL_SET, work(), work(serviceName="other"), [("spec", "Forbidden")]),
    ("VAL-20", STATEFUL_SET, work(), work(podManagementPolicy="Parallel"), [("spec", "Forbidden")]),
    ("VAL-20", STATEFUL_SET, work(), work(replicas=7, revisionHistoryLimit=2, minReadySeconds=1), []),
    ("VAL-23", "Service", service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"]), service(clusterIP="None", clusterIPs=["None"]), [
        ("spec.clusterIPs[0]", "Invalid"),
    ]),
    ("VAL-23", "Service", service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"]), service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"], type="NodePort"), []),
    ("VAL-24", SLICE, {"addressType": "IPv4", "endpoints": []}, {"addressType": "IPv6", "endpoints": []}, [("addressType", "Invalid")]),
    ("VAL-26", PRIORITY_CLASS, {"value": 1}, {"value": 2}, [("value", "Forbidden")]),
    ("VAL-26", "Node", {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}, {"spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]}}, [
        ("spec.podCIDRs", "Forbidden"),
    ]),
    ("VAL-27", "Secret", {"immutable": True, "data": {"k": "b2xk"}}, {"immutable": True, "data": {"k": "bmV3"}}, [("data", "Forbidden")]),
    ("VAL-27", "Secret", {"immutable": True, "data": {"k": "b2xk"}}, {"data": {"k": "b2xk"}}, [("immutable", "Forbidden")]),
    ("VAL-27", "Secret", {"immutable": True, "data": {"k": "b2xk"}}, {"immutable": True, "data": {"k": "b2xk"}, "metadata": {"labels": {"x": "y"}}}, []),
    ("VAL-27", "Secret", {}, {"type": "example.com/other"}, [("type", "Invalid")]),
    ("VAL-27", "ConfigMap", {"immutable": True}, {"immutable": True, "data": {"k": "v"}}, [("data", "Forbidden")]),
    ("VAL-28", JOB, job(parallelism=0), job(parallelism=0, completions=5), [("spec.completions", "Invalid")]),
    ("VAL-28", JOB, job(), {"spec": {"template": {**J, "spec": {"restartPolicy": "Never", "containers": [{**C, "image": "j"}]}}}}, [
        ("spec.template", "Invalid"),
    ]),
    ("VAL-28", JOB, job(completions=1), job(completions=1, parallelism=3), []),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM}, {"spec": {**CLAIM, "accessModes": ["ReadWriteMany"]}}, [("spec", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM}, {"spec": BIGGER}, [("spec", "Forbidden")]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM, "status": BOUND}, {"spec": BIGGER, "status": BOUND}, []),
    ("VAL-29", "PersistentVolumeClaim", {"spec": BIGGER, "status": BOUND}, {"spec": CLAIM, "status": BOUND}, [
        ("spec.resources.requests.storage", "Forbidden"),
    ]),
    ("VAL-29", "PersistentVolumeClaim", {"spec": CLAIM}, {"spec": {**CLAIM, "volumeName": "v"}}, []),
    ("VAL-29", STORAGE_CLASS, {"provisioner": "a.b/c"}, {"provisioner": "a.b/d"}, [("provisioner", "Invalid")]),
    ("VAL-29", STORAGE_CLASS, {"provisioner": "a.b/c"}, {"provisioner": "a.b/c", "reclaimPolicy": "Retain"}, [("reclaimPolicy", "Invalid")]),
    ("VAL-29", STORAGE_CLASS, {"provisioner": "a.b/c"}, {"provisioner": "a.b/c", "allowVolumeExpansion": True}, []),
    ("VAL-33", BINDING, {"roleRef": {"kind": "Role", "name": "r"}}, {"roleRef": {"kind": "Role", "name": "s"}}, [("roleRef", "Invalid")]),
]

ENDED = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
RUNS = {**ENDED, "state": {"running": {}}}

STATUSES = [
    ("VAL-18", "Pod", pod(restartPolicy="Never") | {"status": {"containerStatuses": [ENDED]}}, pod(restartPolicy="Never") | {"status": {
        "containerStatuses": [RUNS],
    }}, [("status.containerStatuses[0].state", "Forbidden")]),
    ("VAL-18", "Pod", pod() | {"status": {"containerStatuses": [ENDED]}}, pod() | {"status": {"containerStatuses": [RUNS]}}, []),
    ("VAL-18", "Pod", pod(), pod() | {"status": {"podIPs": [{"ip": "x"}]}}, [("status.podIPs[0]", "Invalid")]),
    ("VAL-21", REPLICA_SET, work(), work() | {"status": {"replicas": 1, "readyReplicas": 2}}, [("status.readyReplicas", "Invalid")]),
    ("VAL-21", DEPLOYMENT, work() | {"status": {"collisionCount": 2}}, work() | {"status": {"collisionCount": 1}}, [
        ("status.collisionCount", "Invalid"),
    ]),
    ("VAL-25", "Namespace", {}, {"status": {"phase": "Terminating"}}, [("status.Phase", "Invalid")]),
]
