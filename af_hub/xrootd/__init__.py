"""Beside XRootD's data servers and caches: who reads what, with which tokens.

Read in this order: access (the files that say it, pure), keycache (issuers' keys where the daemon looks for them), watch (keeps both as
the policy and the issuers say).
"""
