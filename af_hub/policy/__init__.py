"""``facility.yaml``: the one file that decides everything that depends on who somebody is.

Read in this order: units, forms, the parts of the file (issuers, rules, sessions, sites) and model, the whole; index (which rules speak of
whom), text, words, references, load, watch, refusals (what somebody is told), accounts, decide, signed (data that the hub's own tokens
open), jobs (whose batch jobs get tokens), audit (lines of the log), pages (the hub's, about refusals); explain, check and schema, for
administrators.
"""
