"""The forwarder: where jobs and sessions, which can only dial out, meet.

Read in this order: access (who may do what, pure), offers (what is connected, pure), pauses (when to dial again, pure),
login (where it is, and as whom one logs in, pure),
dask_settings (what Dask must be told when a tunnel lies between), ssh (settings of both ends), relay (bytes of one stream), server,
client.
"""
