"""A session: what is chosen, what it gets, and the process beside the user's server.

Read in this order: options and fragments (pure), tokenfile, keys, attachments, agent, processes, supervisor. The data fragment is in
xrootd. The spawners that use them are in :mod:`af_hub.spawner`.
"""
