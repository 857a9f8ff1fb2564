"""A session: what is chosen, what it gets, and the process beside the user's server. The spawners that use it are in :mod:`af_hub.spawner`.

Read in this order: options, fragments and xrootd (pure), machine, folders, tokenfile, freshness, keys, controller, attachments, bridge,
agent, processes, supervisor, probes. The form of the spawn page is in page.
"""
