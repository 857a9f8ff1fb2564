"""Alembic's entry: runs the migrations on the connection that :func:`af_hub.controller.store.open_store` hands over."""

from alembic import context

from af_hub.controller.model import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
