"""The names that upstream's messages give to the types of fields, where they differ from the types
of the values: a Service's type is a `v1.ServiceType`, and not a `string`. Also the embedded structs
that stand in the path of a field. Rule OBJ-10
(spec/object_model.md).

Source: the published Go types of the API (k8s.io/api). Left out: types of fields of alpha and beta
kinds.
"""

_VOLUME_SOURCES = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
]

# By record: field and type; with "." another package than the record's own.
_NAMES = {
    "ServiceSpec": "type=ServiceType sessionAffinity=ServiceAffinity externalTrafficPolicy=ServiceExternalTrafficPolicy "
    "internalTrafficPolicy=ServiceInternalTrafficPolicy ipFamilies=IPFamily ipFamilyPolicy=IPFamilyPolicy",
    "ServicePort": "protocol=Protocol",
    "EndpointPort": "protocol=Protocol",
    "ContainerPort": "protocol=Protocol",
    "NetworkPolicyPort": "protocol=Protocol",
    "PersistentVolumeSpec": "accessModes=PersistentVolumeAccessMode volumeMode=PersistentVolumeMode "
    "persistentVolumeReclaimPolicy=PersistentVolumeReclaimPolicy",
    "PersistentVolumeClaimSpec": "accessModes=PersistentVolumeAccessMode volumeMode=PersistentVolumeMode",
    "PersistentVolumeStatus": "phase=PersistentVolumePhase",
    "PersistentVolumeClaimStatus": "phase=PersistentVolumeClaimPhase accessModes=PersistentVolumeAccessMode",
    "PodSpec": "restartPolicy=RestartPolicy dnsPolicy=DNSPolicy preemptionPolicy=PreemptionPolicy",
    "PodStatus": "phase=PodPhase qosClass=PodQOSClass",
    "PodCondition": "type=PodConditionType status=ConditionStatus",
    "PodReadinessGate": "conditionType=PodConditionType",
    "Container": "imagePullPolicy=PullPolicy terminationMessagePolicy=TerminationMessagePolicy "
    "restartPolicy=ContainerRestartPolicy",
    "EphemeralContainer": "imagePullPolicy=PullPolicy terminationMessagePolicy=TerminationMessagePolicy "
    "restartPolicy=ContainerRestartPolicy",
    "ContainerResizePolicy": "resourceName=ResourceName restartPolicy=ResourceResizeRestartPolicy",
    "HTTPGetAction": "scheme=URIScheme",
    "Taint": "effect=TaintEffect",
    "Toleration": "operator=TolerationOperator effect=TaintEffect",
    "NodeSelectorRequirement": "operator=NodeSelectorOperator",
    "TopologySpreadConstraint": "whenUnsatisfiable=UnsatisfiableConstraintAction "
    "nodeAffinityPolicy=NodeInclusionPolicy nodeTaintsPolicy=NodeInclusionPolicy",
    "SecurityContext": "procMount=ProcMountType",
    "SeccompProfile": "type=SeccompProfileType",
    "AppArmorProfile": "type=AppArmorProfileType",
    "Capabilities": "add=Capability drop=Capability",
    "PodSecurityContext": "fsGroupChangePolicy=PodFSGroupChangePolicy "
    "supplementalGroupsPolicy=SupplementalGroupsPolicy seLinuxChangePolicy=PodSELinuxChangePolicy",
    "EmptyDirVolumeSource": "medium=StorageMedium",
    "HostPathVolumeSource": "type=HostPathType",
    "ImageVolumeSource": "pullPolicy=PullPolicy",
    "VolumeMount": "mountPropagation=MountPropagationMode recursiveReadOnly=RecursiveReadOnlyMode",
    "Secret": "type=SecretType",
    "NamespaceSpec": "finalizers=FinalizerName",
    "NamespaceStatus": "phase=NamespacePhase",
    "LimitRangeItem": "type=LimitType",
    "ResourceQuotaSpec": "scopes=ResourceQuotaScope",
    "ScopedResourceSelectorRequirement": "scopeName=ResourceQuotaScope operator=ScopeSelectorOperator",
    "NodeCondition": "type=NodeConditionType status=ConditionStatus",
    "NodeAddress": "type=NodeAddressType",
    "ObjectReference": "uid=types.UID",
    "OwnerReference": "uid=types.UID",
    "ObjectMeta": "uid=types.UID",
    "Preconditions": "uid=types.UID",
    "LabelSelectorRequirement": "operator=LabelSelectorOperator",
    "DeleteOptions": "propagationPolicy=DeletionPropagation",
    "Condition": "status=ConditionStatus",
    "DeploymentStrategy": "type=DeploymentStrategyType",
    "StatefulSetUpdateStrategy": "type=StatefulSetUpdateStrategyType",
    "StatefulSetSpec": "podManagementPolicy=PodManagementPolicyType",
    "StatefulSetPersistentVolumeClaimRetentionPolicy": "whenDeleted=PersistentVolumeClaimRetentionPolicyType "
    "whenScaled=PersistentVolumeClaimRetentionPolicyType",
    "DaemonSetUpdateStrategy": "type=DaemonSetUpdateStrategyType",
    "JobSpec": "completionMode=CompletionMode podReplacementPolicy=PodReplacementPolicy",
    "CronJobSpec": "concurrencyPolicy=ConcurrencyPolicy",
    "PodFailurePolicyRule": "action=PodFailurePolicyAction",
    "PodFailurePolicyOnExitCodesRequirement": "operator=PodFailurePolicyOnExitCodesOperator",
    "PodFailurePolicyOnPodConditionsPattern": "type=PodConditionType status=ConditionStatus",
    "HTTPIngressPath": "pathType=PathType",
    "NetworkPolicySpec": "policyTypes=PolicyType",
    "PodDisruptionBudgetSpec": "unhealthyPodEvictionPolicy=UnhealthyPodEvictionPolicyType",
    "StorageClass": "reclaimPolicy=PersistentVolumeReclaimPolicy volumeBindingMode=VolumeBindingMode",
    "CSIDriverSpec": "fsGroupPolicy=FSGroupPolicy volumeLifecycleModes=VolumeLifecycleMode",
    "PriorityClass": "preemptionPolicy=PreemptionPolicy",
    "PriorityLevelConfigurationSpec": "type=PriorityLevelEnablement",
    "LimitResponse": "type=LimitResponseType",
    "FlowDistinguisherMethod": "type=FlowDistinguisherMethodType",
    "ValidatingAdmissionPolicySpec": "failurePolicy=FailurePolicyType",
    "MutatingAdmissionPolicySpec": "failurePolicy=FailurePolicyType reinvocationPolicy=ReinvocationPolicyType",
    "ValidatingAdmissionPolicyBindingSpec": "validationActions=ValidationAction",
    "ParamRef": "parameterNotFoundAction=ParameterNotFoundActionType",
    "MatchResources": "matchPolicy=MatchPolicyType",
    "Mutation": "patchType=PatchType",
    "ValidatingWebhook": "failurePolicy=FailurePolicyType matchPolicy=MatchPolicyType sideEffects=SideEffectClass",
    "MutatingWebhook": "failurePolicy=FailurePolicyType matchPolicy=MatchPolicyType sideEffects=SideEffectClass "
    "reinvocationPolicy=ReinvocationPolicyType",
    "RuleWithOperations": "operations=OperationType scope=ScopeType",
    "NamedRuleWithOperations": "operations=OperationType scope=ScopeType",
    "MetricSpec": "type=MetricSourceType",
    "MetricTarget": "type=MetricTargetType",
    "HPAScalingRules": "selectPolicy=ScalingPolicySelect",
    "HPAScalingPolicy": "type=HPAScalingPolicyType",
    "CertificateSigningRequestSpec": "usages=KeyUsage",
    "EndpointSlice": "addressType=AddressType",
    "LeaseSpec": "strategy=CoordinatedLeaseStrategy",
    "CustomResourceDefinitionSpec": "scope=ResourceScope",
    "CustomResourceConversion": "strategy=ConversionStrategyType",
}
_FIELDS: dict[tuple[str, str], str] = {
    (record, field): name if "." in name else f"v1.{name}"
    for record, texts in _NAMES.items()
    for field, _, name in (text.partition("=") for text in texts.split())
}

_EMBEDDED: dict[str, dict[str, str]] = {
    "PersistentVolumeSpec": dict.fromkeys([*_VOLUME_SOURCES, "local"], "PersistentVolumeSource"),
    "Volume": dict.fromkeys(
        [
            *_VOLUME_SOURCES, "configMap", "downwardAPI", "emptyDir", "ephemeral", "gitRepo",
            "image", "persistentVolumeClaim", "projected", "secret",
        ],
        "VolumeSource",
    ),
    "Probe": dict.fromkeys(["exec", "grpc", "httpGet", "tcpSocket"], "ProbeHandler"),
    "IngressRule": {"http": "IngressRuleValue"},
    "RuleWithOperations": dict.fromkeys(["apiGroups", "apiVersions", "resources", "scope"], "Rule"),
    "NamedRuleWithOperations": {
        "operations": "RuleWithOperations",
        **dict.fromkeys(["apiGroups", "apiVersions", "resources", "scope"], "RuleWithOperations.Rule"),
    },
    "ConfigMapKeySelector": {"name": "LocalObjectReference"},
    "SecretKeySelector": {"name": "LocalObjectReference"},
    "ConfigMapEnvSource": {"name": "LocalObjectReference"},
    "SecretEnvSource": {"name": "LocalObjectReference"},
    "ConfigMapProjection": {"name": "LocalObjectReference"},
    "SecretProjection": {"name": "LocalObjectReference"},
    "ConfigMapVolumeSource": {"name": "LocalObjectReference"},
}  # fmt: skip


def type_name(record: str, field: str) -> str:
    """The name of the type of a field, or of the items of its list; empty: that of its value."""
    return _FIELDS.get((record, field), "")


def embedded_in(record: str, field: str) -> str:
    """The embedded structs, joined by dots, through which upstream reaches a field; empty: none."""
    return _EMBEDDED.get(record, {}).get(field, "")
