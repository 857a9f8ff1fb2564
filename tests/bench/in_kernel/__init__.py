"""Programs that run in a kernel of the session, as a person's notebook would.

Each has a generator ``measured``: what it yields are the figures, and when it goes on it takes away what it has begun.
"""
