"""What the published definitions do not say about the API's wire form, and where each fact was seen.

Read by generate_api.py only. A name is `module.Type.wireName`.
"""

# Optional fields that the API server writes even when nobody gave them, since they are structs and not pointers in its own types
# (a struct is never "empty"), or times that are not pointers (written as null), or fields without an omit mark.
# Seen in answers of a real API server; the rest follows from the same convention (API conventions, "Optional vs. Required").
ALWAYS_WRITTEN = {
    "apps_v1.DaemonSetSpec.updateStrategy",
    "apps_v1.DeploymentSpec.strategy",
    "apps_v1.ReplicaSetSpec.template",
    "apps_v1.StatefulSetSpec.updateStrategy",
    "authentication_v1.SelfSubjectReviewStatus.userInfo",
    "authentication_v1.TokenReviewStatus.user",
    "core_v1.Container.resources",
    "core_v1.ContainerStatus.lastState",
    "core_v1.ContainerStatus.state",
    "core_v1.EphemeralContainer.resources",
    "core_v1.Event.eventTime",
    "core_v1.Event.firstTimestamp",
    "core_v1.Event.lastTimestamp",
    "core_v1.Event.reportingComponent",
    "core_v1.Event.reportingInstance",
    "core_v1.Event.source",
    "core_v1.NodeDaemonEndpoints.kubeletEndpoint",
    "core_v1.NodeStatus.daemonEndpoints",
    "core_v1.NodeStatus.nodeInfo",
    "core_v1.PersistentVolumeClaimSpec.resources",
    "core_v1.PodTemplate.template",
    "core_v1.PodTemplateSpec.metadata",
    "core_v1.PodTemplateSpec.spec",
    "core_v1.ServiceStatus.loadBalancer",
    "batch_v1.JobTemplateSpec.metadata",
    "batch_v1.JobTemplateSpec.spec",
    "discovery_v1.Endpoint.conditions",
    "events_v1.Event.deprecatedFirstTimestamp",
    "events_v1.Event.deprecatedLastTimestamp",
    "events_v1.Event.deprecatedSource",
    "events_v1.Event.regarding",
    "networking_v1.IngressStatus.loadBalancer",
    "networking_v1.NetworkPolicySpec.podSelector",
    "resource_v1.AllocationResult.devices",
    "resource_v1.ResourceClaimSpec.devices",
    "core_v1.PodCondition.lastProbeTime",
    "core_v1.PodCondition.lastTransitionTime",
    "core_v1.ContainerStateRunning.startedAt",
    "core_v1.ContainerStateTerminated.startedAt",
    "core_v1.ContainerStateTerminated.finishedAt",
    "core_v1.NodeCondition.lastHeartbeatTime",
    "core_v1.NodeCondition.lastTransitionTime",
}
