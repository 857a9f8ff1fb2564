"""Images of sessions before a session starts: what a name means, whether it may be chosen, and what the registry says of it.

Read in this order, pure ones first: reasons (why an image is refused), reference (names of images), patterns (which names people may type),
challenge (where a registry may send us), proof (what its answers mean), askers (how often one person may have registries asked); then
client (asks) and prover (asks once, and remembers).
"""
