"""Spawners: the hop from the spawn page to a session. :mod:`af_hub.spawner` is the name that configuration uses.

Read choosing, which checks a choice and says what a session gets; then local (sessions as processes of this machine).
"""
