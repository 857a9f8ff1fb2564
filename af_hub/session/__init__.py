"""A session: what is chosen, what it gets, and the process beside the user's server. The spawners that use it are in :mod:`af_hub.spawning`.

Read in this order. What the spawner uses: options, fragments, volumes, cvmfs, xrootd and authorities (pure), machine, folders. What the
session agent is made of: tokenfile and freshness (the tokens), jobtokens (those of batch jobs), keys, controller, bridge and attachments
(ways to Dask clusters), signpost (the way to data), agent, await_ready (what waits for it in a pod). Who runs agent and server: processes,
supervisor. Beside these: probes (of caches), cvmfs_look with cvmfs_child (of repositories). The form of the spawn page is in page.
"""
