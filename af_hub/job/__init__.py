"""What runs at a site as a batch job: the job agent with a Dask scheduler and a first worker, or one more Dask worker.

Needs Python, distributed and asyncssh, nothing else. Read in this order: kit (files that come with the job, pure), sandbox (where they
lie), enclosure and handshakes (what neighbours on the node get of a job), addresses (the node's address inside the site), control (what
agent and scheduler say to each other), private_http (HTTP that nobody else on the node reaches), dask_nodes, dask_tokens (the person's
token for each worker), aside, nanny, scheduler, worker, begin (what loads Dask first of all), children, api, start (last words), watch (the
way to the forwarder), life, agent.
"""
