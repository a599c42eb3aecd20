"""The audit log: which requests are recorded, and what of them. Rules AUDIT-1 to AUDIT-6
(spec/audit.md).

    policy.py   the rules of a policy file, and the level of a request
    event.py    the record of one stage of a request

Source: Kubernetes documentation, "Auditing"; API reference, "kube-apiserver Audit Configuration
(v1)".
"""
