"""Tokens: kept fresh in the hub, handed out by its endpoint; refresh tokens never leave it.

Read in this order: lifetime, purposes, health (when to ask an IAM again) and notice (what people read of their login), all
pure; keys (what seals), records, store, clients (of every issuer), flight (one refresh), metrics, asking
(how the IAMs are asked), keeper; issuer_keys and own_issuer (the hub signs); endpoint, me, device (login from a laptop), own_pool.
"""
