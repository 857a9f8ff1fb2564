"""Tokens: kept fresh in the hub, handed out by its endpoint; refresh tokens never leave it.

Read in this order: lifetime (pure), records, store, clients (of every issuer), keeper, endpoint, device (login from a laptop), own_pool.
"""
