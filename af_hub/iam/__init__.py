"""What the IAM says about a person, and how to talk to it.

Read in this order: claims (pure), discovery, endpoint.
"""
