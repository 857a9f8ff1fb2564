"""Everything about HTCondor: who somebody is there, jobs as we describe them, and the pool as we see it.

Read in this order: mapper, mapping, mapfile, negotiator (pure), watch, static (beside access point and central manager); submit, jobstatus,
why, ads, jobtoken (pure); inputs; credmon (beside the access point); operation, pool; neighbour and check_site (whether a site keeps people apart).
"""
