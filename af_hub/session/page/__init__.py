"""The choice as people see it: the form inside JupyterHub's own spawn page."""
