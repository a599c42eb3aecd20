"""The variable `authorizer` of expressions for admission. Rules MATCH-5 (spec/webhooks.md), POL-9
(spec/admission_policies.md).

Source: Kubernetes documentation, "Common Expression Language in Kubernetes" (Kubernetes authorizer
library).
"""

from refk8s.core.api.user import service_account_user
from refk8s.core.apiserver.admission.matching import AdmissionRequest
from refk8s.core.apiserver.authorize import decide
from refk8s.core.apiserver.config import Attributes, Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.cel.authorizer import Answer, Authorizer, Check


def authorizer_of(request: AdmissionRequest, store: Reader, config: Config) -> Authorizer:
    """The authorizer as the user of the request, or a service account, would ask it."""

    def ask(what: Check, verb: str) -> Answer:
        user = request.user if not what.account[1] else service_account_user(*what.account)
        if what.path:
            attributes = Attributes(user, verb.lower(), path=what.path)
        else:
            attributes = Attributes(
                user,
                verb,
                what.group,
                what.resource,
                what.subresource,
                what.namespace,
                what.name,
                fields=what.fields,
                version="*",
            )
        decision = decide(attributes, store, config)
        return Answer(decision.allowed, decision.reason, decision.problem)

    about = Check(
        group=request.resource.group,
        resource=request.resource.plural,
        subresource=request.subresource,
        namespace=request.namespace,
        name=request.name,
    )
    return Authorizer(ask, about)
