"""Real parts for tests and for the demo: a small IAM, a hub, an HTCondor pool, XRootD servers, and pytest fixtures for them.

Read in this order: process, require, debian, iam, hub, condor, xrootd, plugin.
"""
