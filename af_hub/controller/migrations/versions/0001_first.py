"""The first tables: clusters, jobs, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "clusters",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("image", sa.String(64), nullable=False),
        sa.Column("account", sa.String(128), nullable=False),
        sa.Column("accounting_group", sa.String(128), nullable=False),
        sa.Column("workers_wanted", sa.Integer(), nullable=False),
        sa.Column("workers_running", sa.Integer(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("next_worker", sa.Integer(), nullable=False),
        sa.Column("workers_lost", sa.Integer(), nullable=False),
        sa.Column("has_run", sa.Boolean(), nullable=False),
        sa.Column("forgotten", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clusters"),
    )
    op.create_index("ix_clusters_owner", "clusters", ["owner"])
    op.create_index("ix_clusters_state", "clusters", ["state"])
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.String(32), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("worker", sa.String(32), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("retiring_since", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name="fk_jobs_cluster_id", ondelete="CASCADE"),
        sa.UniqueConstraint("cluster_id", "role", "worker", name="uq_jobs_cluster_id_role_worker"),
    )
    op.create_table(
        "events",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.String(32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_events"),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name="fk_events_cluster_id", ondelete="CASCADE"),
    )
    op.create_index("ix_events_cluster_id", "events", ["cluster_id"])


def downgrade() -> None:
    """Drop them."""
    for table in ("events", "jobs", "clusters"):
        op.drop_table(table)
