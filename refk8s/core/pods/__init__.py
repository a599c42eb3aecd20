"""How every component reads a pod: tolerations, requests, host ports, containers and status.

The API server, the controllers, the scheduler and the kubelet use these functions and none of their
own, so they cannot disagree. Rules POD-20 to POD-24 (spec/pod.md).
"""
