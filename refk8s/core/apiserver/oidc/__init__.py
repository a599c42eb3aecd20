"""OpenID Connect: users whose tokens another issuer has signed. Rules OIDC-1 to OIDC-6
(spec/oidc.md).

    issuers.py        an issuer, and what its tokens must have
    configuration.py  reads an AuthenticationConfiguration, and the flags
    tokens.py         a token to a user

Source: Kubernetes documentation, "Authenticating" (OpenID Connect Tokens; Using Authentication
Configuration); OpenID Connect Core 1.0; RFC 7519.
"""
