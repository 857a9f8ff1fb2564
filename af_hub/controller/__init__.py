"""The controller: Dask clusters as durable things.

Read in this order: states and steps (values), plan with workers and why (what to do next, and what to say; pure), choices (who may have
what, pure), kit (what travels with jobs), model and store (rows) with news (who waits for a change), keys, pool (what a batch system must
do) and condor (the one that does), sight (what is seen of it), jobagent and tunnel (the way to a cluster's job), hub and login (who asks),
reconcile (the loop) and hands (what it does), tokens (of clusters' jobs), batch (tokens of plain batch jobs), metrics, then the web:
mistakes and problems, guard, parts, api, batch_api, metrics_api, dashboard, look and page, web; settings, app.
"""
