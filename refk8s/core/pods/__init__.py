"""What a pod means to every component: its tolerations, requests, host ports, containers, status.

The API server, the controllers, the scheduler and the kubelet import this package and keep no
reading of their own, so they cannot disagree. Rules POD-20 ... POD-24 (spec/pod.md).
"""
