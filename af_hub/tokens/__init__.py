"""Tokens: kept fresh in the hub, handed out by its endpoint; refresh tokens never leave it.

Read in this order: lifetime (pure), records, store, keeper, endpoint.
"""
