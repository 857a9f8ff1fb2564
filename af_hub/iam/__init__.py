"""What the IAM says about a person, and how to talk to it.

Read in this order: claims and idtoken (pure), http, discovery, endpoint.
"""
