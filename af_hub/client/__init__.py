"""What runs in the user's server and kernels, or on their laptop: Dask clusters as objects, reading data, a check of the session in plain
words, and the command `af`.

Read in this order: api (controller and session agent), security (credentials for any Dask client), words (pure), way (to a
scheduler), remote (RemoteHTCondor), data, denied, check; for `af`: wlcg (where tokens lie), logins, hub, whoami, submit, command.
"""
