"""What runs in the user's server and kernels: Dask clusters as objects, reading data, and a check of the session in plain words.

Read in this order: api (controller and session agent), security (credentials for any Dask
client), words (pure), way (to a scheduler), remote (RemoteHTCondor), data, check.
"""
