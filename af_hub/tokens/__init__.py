"""Tokens: kept fresh in the hub, handed out by its endpoint; refresh tokens never leave it.

Read in this order: lifetime, health (when to ask an IAM again) and notice (what people read of their login), all pure; keys (what seals),
records, store, clients (of every issuer), flight (one refresh), metrics, keeper; endpoint, device (login from a laptop), own_pool.
"""
