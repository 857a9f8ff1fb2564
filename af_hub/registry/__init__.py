"""Images of sessions before a session starts: what a name means, whether it may be chosen, and what the registry says of it.

Read in this order: reasons (why an image is refused), reference (names of images), patterns (which names people may type).
"""
