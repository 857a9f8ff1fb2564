"""A facility on one machine, of real parts: what ``make demo``, ``make demo-check`` and ``make demo-kube`` run.

Read in this order: machine (what it must have), environment (Python's), parts (what must be there once) and data (the events); people,
processes (nothing outlives it), revival (what dies is started again), pods (a cluster for sessions), facility (all parts), run (at a
terminal); relay (leads browsers into a network), ground (what sessions need in a cluster) and kube (all of it) for ``make demo-kube``; then
what ``make demo-check`` does: notebook (a kernel of somebody's server), keyfiles (where secrets lie), why (what the logs say), check; and
site, for ``af-hub check site``. ``users.yaml`` holds the people of the demo IAM, ``Welcome.ipynb`` is what they find in their home.
"""
