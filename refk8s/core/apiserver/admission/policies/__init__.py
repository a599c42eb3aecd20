"""Admission policies. Rules POL-6 to POL-13 (spec/admission_policies.md).

    bound.py        the policies of a store with their bindings, compiled
    parameters.py   the parameters of a binding
    expressions.py  the expressions of one policy on one request
    validating.py   ValidatingAdmissionPolicies: reject a request, or warn

Nothing of it is loaded before there is a binding.
"""
