"""Real parts for tests and for the demo: a small IAM, a hub, an HTCondor pool, XRootD servers, and pytest fixtures for them.

Read in this order: process (start, wait, stop), require (skip or fail), browser (log in as people do), chromium (see what people see);
debian (programs of others); then a module for each part: iam (with iam_oauth, iam_tokens, iam_page, iam_state, iam_faults), hub,
forwarder, condor (with condor_prefix, condor_files, condor_master, keeper), xrootd; network and accounts (machines and users that this
machine has not); fake_hub and fake_site, what a controller talks to; plugin, the fixtures.
"""
