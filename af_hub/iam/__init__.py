"""What the IAM says about a person, and how to talk to it.

Read in this order: claims, idtoken, device and scopes (pure), http, discovery, endpoint, scim.
"""
