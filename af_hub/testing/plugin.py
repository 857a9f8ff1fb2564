"""The pytest plugin: fixtures that start real parts, for our tests and for those of other hubs.

A fixture starts its part at first use, once a session, in a folder of its own, and stops it at the end. A part that cannot be had
on this machine skips the test with the reason; see :func:`af_hub.testing.require.unavailable`.
"""
