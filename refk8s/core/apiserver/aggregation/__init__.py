"""Other API servers: which requests are theirs, what they are sent, and whether they are available.
Rules APISVC-5 to APISVC-12 (spec/api_services.md).

| file | what it decides |
|---|---|
| remotes.py | which API server a path belongs to |
| identity.py | the headers by which the other server knows the user |
| component.py | the requests of components, as calls |
| availability.py | whether the other server is available, and what it serves |
| discovery.py | the discovery documents of all servers together |
| authentication.py | the ConfigMap by which the other server verifies this one |

A request over HTTP is passed on as bytes (refk8s/components/aggregator.py); a component's request
becomes a call (calls.py). Source: Kubernetes documentation, "Kubernetes API Aggregation Layer",
"Configure the Aggregation Layer", "Set up an Extension API Server".
"""
