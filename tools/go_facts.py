"""Facts about the API's wire form that the published definitions do not have. Read only by
generate_api.py.

Upstream keeps an optional field either as a pointer, whose zero value counts as given (`replicas:
0`), or as a plain value, whose zero value is taken for absent and is not written (`hostNetwork:
false`); a struct that is not a pointer is always written (`resources: {}`). The definitions do not
distinguish these. The sets below do, by rule and exception. Source: Kubernetes documentation, "API
Conventions", section "Optional vs. Required"; answers of a real API server. A name is
`module.Type.wireName`; `*` means any type or module.
"""

from fnmatch import fnmatchcase


def _names(text: str) -> list[str]:
    return text.split()


# Fields that were added later and come before an older one: {type: {field: the field that follows
# it}}, applied in this order.
ORDER: dict[str, dict[str, str]] = {
    "StatusDetails": {"uid": "causes"},
    "OwnerReference": {"apiVersion": "kind"},
    "PodCertificateRequestSpec": {"stubPKCS10Request": "unverifiedUserAnnotations"},
    "Container": {
        "envFrom": "env", "resizePolicy": "volumeMounts", "restartPolicy": "volumeMounts", "restartPolicyRules": "volumeMounts",
        "volumeDevices": "livenessProbe", "startupProbe": "lifecycle", "terminationMessagePolicy": "imagePullPolicy",
    },
    "PodSpec": {
        "initContainers": "containers", "ephemeralContainers": "restartPolicy", "automountServiceAccountToken": "nodeName",
        "shareProcessNamespace": "securityContext",
    },
}  # fmt: skip
ORDER["EphemeralContainer"] = ORDER["EphemeralContainerCommon"] = ORDER["Container"]

# Optional, yet always written: structs, fields without an omit mark, and times that are no pointers
# (written as null when not set).
ALWAYS_WRITTEN = _names("""
apps_v1.ControllerRevision.revision apps_v1.DaemonSetSpec.updateStrategy apps_v1.DeploymentSpec.strategy apps_v1.ReplicaSetSpec.template
apps_v1.StatefulSetSpec.serviceName apps_v1.StatefulSetSpec.updateStrategy apps_v1.StatefulSetOrdinals.start
apps_v1.StatefulSetStatus.availableReplicas
apps_v1.*Condition.type apps_v1.*Condition.status apps_v1.*Condition.lastTransitionTime apps_v1.*Condition.lastUpdateTime
authentication_v1.SelfSubjectReviewStatus.userInfo authentication_v1.TokenReviewStatus.user authentication_v1.TokenRequestStatus.token
autoscaling_v2.HorizontalPodAutoscalerCondition.lastTransitionTime
batch_v1.JobTemplateSpec.metadata batch_v1.JobTemplateSpec.spec batch_v1.JobCondition.lastProbeTime batch_v1.JobCondition.lastTransitionTime
certificates_v1.*Condition.lastUpdateTime certificates_v1.*Condition.lastTransitionTime
core_v1.Container.resources core_v1.EphemeralContainer.resources core_v1.ContainerStatus.state core_v1.ContainerStatus.lastState
core_v1.Event.eventTime core_v1.Event.firstTimestamp core_v1.Event.lastTimestamp core_v1.Event.reportingComponent
core_v1.Event.reportingInstance core_v1.Event.source core_v1.EventSeries.lastObservedTime
core_v1.NodeDaemonEndpoints.kubeletEndpoint core_v1.NodeStatus.daemonEndpoints core_v1.NodeStatus.nodeInfo core_v1.NodeRuntimeHandler.name
core_v1.PersistentVolumeClaimSpec.resources core_v1.PersistentVolumeClaimTemplate.metadata core_v1.PodTemplate.template
core_v1.PodTemplateSpec.metadata core_v1.PodTemplateSpec.spec core_v1.ServiceStatus.loadBalancer core_v1.ResourceFieldSelector.divisor
core_v1.*Condition.lastProbeTime core_v1.*Condition.lastTransitionTime core_v1.NodeCondition.lastHeartbeatTime
core_v1.ContainerState*.startedAt core_v1.ContainerStateTerminated.finishedAt
discovery_v1.Endpoint.conditions
events_v1.Event.deprecatedFirstTimestamp events_v1.Event.deprecatedLastTimestamp events_v1.Event.deprecatedSource events_v1.Event.regarding
flowcontrol_v1.FlowSchemaSpec.matchingPrecedence flowcontrol_v1.QueuingConfiguration.* flowcontrol_v1.*Condition.lastTransitionTime
networking_v1.IngressStatus.loadBalancer networking_v1.NetworkPolicySpec.podSelector
policy_v1.PodDisruptionBudgetStatus.currentHealthy policy_v1.PodDisruptionBudgetStatus.desiredHealthy
policy_v1.PodDisruptionBudgetStatus.disruptionsAllowed policy_v1.PodDisruptionBudgetStatus.expectedPods
rbac_v1.RoleRef.apiGroup
resource_v1.AllocationResult.devices resource_v1.ResourceClaimSpec.devices resource_v1.ResourceClaimTemplateSpec.metadata
scheduling_v1.PriorityClass.value storage_v1.VolumeError.time
apiextensions_v1.CustomResourceDefinitionCondition.lastTransitionTime apiextensions_v1.CustomResourceDefinitionStatus.acceptedNames
apiregistration_v1.APIServiceCondition.lastTransitionTime
""")

# Written as null when there is nothing: lists and pointers without an omit mark.
WRITTEN_AS_NULL = _names("""
authentication_v1.TokenRequestSpec.boundObjectRef authentication_v1.TokenRequestStatus.expirationTimestamp
autoscaling_v2.HorizontalPodAutoscalerStatus.currentMetrics discovery_v1.EndpointSlice.ports rbac_v1.ClusterRole.rules rbac_v1.Role.rules
apiextensions_v1.CustomResourceDefinitionStatus.conditions storage_v1.CSINodeDriver.topologyKeys
""")

# Optional booleans that are plain values: false is absent. All others are pointers.
PLAIN_BOOLEANS = _names("""
apps_v1.DeploymentSpec.paused authentication_v1.TokenReviewStatus.authenticated authorization_v1.SubjectAccessReviewStatus.denied
core_v1.*VolumeSource.readOnly core_v1.ScaleIO*.sslEnabled core_v1.ISCSI*.chapAuth* core_v1.*Container.stdin core_v1.*Container.stdinOnce
core_v1.*Container.tty core_v1.NodeSpec.unschedulable core_v1.PodSpec.hostIPC core_v1.PodSpec.hostNetwork core_v1.PodSpec.hostPID
core_v1.ServiceSpec.publishNotReadyAddresses core_v1.VolumeMount.readOnly core_v1.VolumeMountStatus.readOnly
flowcontrol_v1.ResourcePolicyRule.clusterScope scheduling_v1.PriorityClass.globalDefault
apiextensions_v1.CustomResourceDefinitionSpec.preserveUnknownFields apiextensions_v1.CustomResourceDefinitionVersion.deprecated
apiextensions_v1.JSONSchemaProps.exclusive* apiextensions_v1.JSONSchemaProps.nullable apiextensions_v1.JSONSchemaProps.uniqueItems
apiextensions_v1.JSONSchemaProps.x-kubernetes-embedded-resource apiextensions_v1.JSONSchemaProps.x-kubernetes-int-or-string
apiregistration_v1.APIServiceSpec.insecureSkipTLSVerify
""")
POINTER_BOOLEANS = ["core_v1.AzureDiskVolumeSource.readOnly", "core_v1.CSIVolumeSource.readOnly"]

# Optional integers that are plain values: 0 is absent. All others are pointers.
PLAIN_INTEGERS = _names("""
*.*.observedGeneration apps_v1.*Spec.minReadySeconds apps_v1.*Status.*Replicas apps_v1.DeploymentStatus.replicas
apps_v1.DaemonSetStatus.number* apps_v1.DaemonSetStatus.updatedNumberScheduled autoscaling_v1.ScaleSpec.replicas
autoscaling_v2.HorizontalPodAutoscalerStatus.currentReplicas batch_v1.JobStatus.active batch_v1.JobStatus.failed
batch_v1.JobStatus.succeeded
core_v1.AWSElasticBlockStoreVolumeSource.partition core_v1.GCEPersistentDiskVolumeSource.partition core_v1.ContainerImage.sizeBytes
core_v1.ContainerPort.hostPort core_v1.ContainerStateTerminated.signal core_v1.Event.count core_v1.EventSeries.count
core_v1.Probe.failureThreshold core_v1.Probe.initialDelaySeconds core_v1.Probe.periodSeconds core_v1.Probe.successThreshold
core_v1.Probe.timeoutSeconds core_v1.ReplicationControllerSpec.minReadySeconds core_v1.ReplicationControllerStatus.*
core_v1.ServicePort.nodePort core_v1.ServiceSpec.healthCheckNodePort events_v1.Event.deprecatedCount networking_v1.ServiceBackendPort.number
resource_v1.ExactDeviceRequest.count resource_v1.DeviceSubRequest.count apiextensions_v1.CustomResourceColumnDefinition.priority
meta_v1.ObjectMeta.generation meta_v1.Status.code meta_v1.StatusDetails.retryAfterSeconds
""")
POINTER_INTEGERS = _names("""
apps_v1.*Status.terminatingReplicas autoscaling_v1.HorizontalPodAutoscalerStatus.observedGeneration
autoscaling_v2.HorizontalPodAutoscalerStatus.observedGeneration
""")

# Optional strings that are pointers: "" counts as given (`storageClassName: ""`). All others are
# plain values.
POINTER_STRINGS = _names("""
admissionregistration_v1.*.matchPolicy admissionregistration_v1.*.failurePolicy admissionregistration_v1.MutatingWebhook.reinvocationPolicy
admissionregistration_v1.*.scope admissionregistration_v1.ParamRef.parameterNotFoundAction admissionregistration_v1.ServiceReference.path
admissionregistration_v1.Validation.reason admissionregistration_v1.WebhookClientConfig.url autoscaling_v2.HPAScalingRules.selectPolicy
batch_v1.CronJobSpec.timeZone batch_v1.JobSpec.completionMode batch_v1.JobSpec.managedBy batch_v1.JobSpec.podReplacementPolicy
batch_v1.PodFailurePolicyOnExitCodesRequirement.containerName batch_v1.JobStatus.failedIndexes batch_v1.SuccessPolicyRule.succeededIndexes
coordination_v1.LeaseSpec.* core_v1.*.localhostProfile core_v1.AzureDiskVolumeSource.*
core_v1.AzureFilePersistentVolumeSource.secretNamespace
core_v1.CSIVolumeSource.fsType core_v1.ClusterTrustBundleProjection.* core_v1.*Container.restartPolicy core_v1.*.stopSignal
core_v1.EndpointAddress.nodeName core_v1.*Port.appProtocol core_v1.GRPCAction.* core_v1.HTTPGetAction.protocol
core_v1.GlusterfsPersistentVolumeSource.endpointsNamespace core_v1.HostPathVolumeSource.type core_v1.ISCSI*.initiatorName
core_v1.LoadBalancerIngress.ipMode core_v1.LocalVolumeSource.fsType core_v1.PersistentVolumeClaimSpec.storageClassName
core_v1.PersistentVolumeClaimSpec.volumeMode core_v1.PersistentVolumeSpec.volumeMode core_v1.*.volumeAttributesClassName
core_v1.PersistentVolumeClaimStatus.currentVolumeAttributesClassName core_v1.PodDNSConfigOption.value core_v1.PodResourceClaim*.*
core_v1.PodSchedulingGroup.podGroupName core_v1.PodSecurityContext.* core_v1.PodSpec.hostnameOverride core_v1.PodSpec.preemptionPolicy
core_v1.PodSpec.runtimeClassName core_v1.PortStatus.error core_v1.SecurityContext.procMount core_v1.ServiceSpec.internalTrafficPolicy
core_v1.ServiceSpec.ipFamilyPolicy core_v1.ServiceSpec.loadBalancerClass core_v1.ServiceSpec.trafficDistribution
core_v1.TopologySpreadConstraint.node* core_v1.Typed*Reference.apiGroup core_v1.TypedObjectReference.namespace
core_v1.VolumeMount.mountPropagation core_v1.VolumeMount*.recursiveReadOnly core_v1.WindowsSecurityContextOptions.*
discovery_v1.Endpoint.* discovery_v1.EndpointPort.* networking_v1.IngressClassParametersReference.*
networking_v1.IngressSpec.ingressClassName
networking_v1.IngressPortStatus.error networking_v1.NetworkPolicyPort.protocol policy_v1.PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy
resource_v1.*.shareID resource_v1.*.nodeName resource_v1.DeviceAttribute.* resource_v1.DeviceClassSpec.extendedResourceName
resource_v1.DeviceConstraint.* resource_v1.DeviceTaintSelector.* resource_v1.NodeAllocatableMapping.capacityKey
resource_v1.ResourceSliceSpec.partitionTypeAttribute scheduling_v1.PriorityClass.preemptionPolicy storage_v1.CSIDriverSpec.fsGroupPolicy
storage_v1.StorageClass.reclaimPolicy storage_v1.StorageClass.volumeBindingMode storage_v1.VolumeAttachmentSource.persistentVolumeName
apiextensions_v1.CustomResourceDefinitionVersion.deprecationWarning apiextensions_v1.CustomResourceSubresourceScale.labelSelectorPath
apiextensions_v1.JSONSchemaProps.$ref apiextensions_v1.JSONSchemaProps.x-kubernetes-*-type apiextensions_v1.ServiceReference.path
apiextensions_v1.ValidationRule.reason apiextensions_v1.WebhookClientConfig.url meta_v1.DeleteOptions.propagationPolicy
meta_v1.Preconditions.*
""")

# Required strings that are pointers: validation distinguishes "" and absent.
REQUIRED_POINTERS = _names("""
admissionregistration_v1.*Webhook.sideEffects networking_v1.HTTPIngressPath.pathType
""")


def _in(path: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(path, pattern.replace("[", "[[]")) for pattern in patterns)


def is_always_written(path: str) -> bool:
    return _in(path, ALWAYS_WRITTEN)


def is_written_as_null(path: str) -> bool:
    return _in(path, WRITTEN_AS_NULL)


def is_required_pointer(path: str) -> bool:
    return _in(path, REQUIRED_POINTERS)


# Lists whose emptiness a request may state: it removes all entries (APPLY-14).
EMPTY_IS_GIVEN = ("meta_v1.ObjectMeta.managedFields",)


def is_zero_absent(path: str, kind: str) -> bool:
    """Whether the zero value of an optional field of this Python type means that the field is not
    there."""
    if kind == "bool":
        return _in(path, PLAIN_BOOLEANS) and not _in(path, POINTER_BOOLEANS)
    if kind in ("Int32", "Int64"):
        return _in(path, PLAIN_INTEGERS) and not _in(path, POINTER_INTEGERS)
    if kind == "str":
        return not _in(path, POINTER_STRINGS + REQUIRED_POINTERS)
    if path in EMPTY_IS_GIVEN:
        return False
    return kind == "Base64" or kind.startswith(("tuple", "dict"))


def unused(paths: set[str]) -> list[str]:
    """Patterns that name no field: a fact about something that is no longer there."""
    every = (
        ALWAYS_WRITTEN
        + WRITTEN_AS_NULL
        + PLAIN_BOOLEANS
        + POINTER_BOOLEANS
        + PLAIN_INTEGERS
        + POINTER_INTEGERS
        + POINTER_STRINGS
        + REQUIRED_POINTERS
    )
    return [pattern for pattern in every if not any(_in(path, [pattern]) for path in paths)]
