"""A facility on one machine, of real parts: what ``make demo`` and ``make demo-check`` run.

Read in this order: parts (what must be there once), secrets, processes, facility, check. ``users.yaml`` holds the people of the
demo IAM, ``data`` makes the events, ``Welcome.ipynb`` is what they find in their home.
"""
