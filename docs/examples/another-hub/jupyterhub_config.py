"""A hub that is not AF Hub: plain oauthenticator at an INDIGO IAM. Its addresses and its client come from the environment."""

c = get_config()  # noqa: F821

c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.scope = ["openid", "profile", "email", "wlcg.groups", "offline_access"]
c.GenericOAuthenticator.username_claim = "preferred_username"
c.GenericOAuthenticator.enable_auth_state = True
c.GenericOAuthenticator.manage_groups = True
# Not "oauth_user.wlcg.groups": the claim has a dot in its name, which oauthenticator would take for a path.
c.GenericOAuthenticator.auth_state_groups_key = lambda auth_state: auth_state["oauth_user"].get("wlcg.groups", [])
c.GenericOAuthenticator.allowed_groups = {"/cms/itcms"}
c.GenericOAuthenticator.auth_refresh_age = 1

c.CryptKeeper.keys = ["0" * 64]  # of a test; a real one is secret
c.JupyterHub.spawner_class = "simple"
