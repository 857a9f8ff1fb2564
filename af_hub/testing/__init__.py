"""Real parts for tests and for the demo: a small IAM, a hub, an HTCondor pool, XRootD servers, and pytest fixtures for them.

Read in this order: process (start, wait, stop), places (files of this project), require (skip or fail), browser (log in as people do),
chromium (see what people see); debian (programs of others); then a module for each part: iam (with iam_authority, iam_login, iam_device,
iam_endpoint, iam_exchange, iam_inspection, iam_scim, iam_oauth, iam_tokens, iam_page, iam_state, iam_faults, iam_command), hub, other_hub
(of anybody's configuration), forwarder, condor (with condor_prefix, condor_files, condor_master, condor_person, keeper), xrootd (with
xrootd_tokens and certificates), cvmfs (a stand-in); network and accounts (machines and users that this machine has not); kube_machine (a place
for a Kubernetes, with kube_cgroups), kube_needs (what the machine must have), kube_build and kube_images (what it runs), kube_cluster (the whole,
of kube_control, kube_node, kube_sysctls, kube_registry);
registry (images made by hand for it) and fake_registry, what proofs of images ask; fake_hub and
fake_site, what a controller talks to; fake_kube, what a spawner talks to; plugin, the fixtures.
"""
