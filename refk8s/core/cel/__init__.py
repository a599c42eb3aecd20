"""The Common Expression Language: expressions in definitions and policies. Rules CEL-1 to CEL-6
(spec/cel.md).

    parse      a text to a tree
    check      the type of a tree, and its errors, given the types of its variables
    estimate   an upper bound of its cost
    evaluate   its value, within a budget

Source: Common Expression Language specification, "Language Definition"; Kubernetes documentation,
"Common Expression Language in Kubernetes".
"""
