"""PodSecurity: the levels privileged, baseline and restricted of a namespace. Rules PSA-1 to PSA-6
(spec/pod_security.md).

    policy.py       the labels of a namespace: a level and a version for each of three modes
    baseline.py     the checks of the level baseline
    restricted.py   the checks that the level restricted adds
    evaluate.py     the checks of a level and version, in order
    enforce.py      requests: what is rejected, and what is warned of

Source: Kubernetes documentation, "Pod Security Standards", "Pod Security Admission".
"""
