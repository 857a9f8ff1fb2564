"""AF Hub: an analysis facility for high-energy physics.

Read in this order: :mod:`af_hub.errors`, with files, database, ready, backoff and allowances beside it (small things that all use);
:mod:`af_hub.iam`, :mod:`af_hub.registry`, :mod:`af_hub.policy`, :mod:`af_hub.tokens`, :mod:`af_hub.session`, :mod:`af_hub.condor`,
:mod:`af_hub.xrootd`, :mod:`af_hub.forwarder`, :mod:`af_hub.job`, :mod:`af_hub.controller`, :mod:`af_hub.client`, :mod:`af_hub.keychain`, then the
plugins :mod:`af_hub.authenticator` (with iam_settings, signin, signout, away and serving) and :mod:`af_hub.spawner` (made of
:mod:`af_hub.spawning`), then :mod:`af_hub.cli` (with cli_options, cli_pool and cli_session), :mod:`af_hub.demo`, :mod:`af_hub.testing`.
"""
