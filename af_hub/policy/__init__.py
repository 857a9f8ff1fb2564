"""``facility.yaml``: the one file that decides everything that depends on who somebody is.

Read in this order: units, model, text, words, references, load, watch, decide, explain.
"""
