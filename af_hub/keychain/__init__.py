"""The secrets of a facility that runs in a cluster: one Kubernetes Secret, made once and kept.

Read kinds (what is in it, and what is missing, pure), then secret (reads and completes it through the cluster's API).
"""
