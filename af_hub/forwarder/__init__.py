"""The forwarder: where jobs and sessions, which can only dial out, meet.

Read in this order: access (who may do what, pure), offers (what is connected, pure), login (where it is, and as whom one logs in, pure),
pauses (when to dial again, pure), dask_settings (what Dask must be told when a tunnel lies between, pure), ssh (settings of both ends),
relay (bytes of one stream), keys, commands (what the controller orders), server, probe (whether it takes anybody in); then the side that
dials: client (one connection), link (one that comes back), bridge (a local listener that leads through it).
"""
