"""The controller's tables: Dask clusters, their batch jobs, and what happened to them.

Times are Unix times in seconds, memory is bytes. Nothing secret is in the database: keys are files (:mod:`af_hub.controller.keys`),
tokens are never kept.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from af_hub.controller.states import Role, State
from af_hub.controller.steps import Tracked, Wish


class Base(DeclarativeBase):
    """All tables; constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Cluster(Base):
    """One Dask cluster: what its owner wants, and how far it is."""

    __tablename__ = "clusters"
    __table_args__ = (Index(None, "owner"), Index(None, "state"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    site: Mapped[str] = mapped_column(String(64))
    pool: Mapped[str] = mapped_column(String(64))
    image: Mapped[str] = mapped_column(String(64))
    account: Mapped[str] = mapped_column(String(128))
    accounting_group: Mapped[str] = mapped_column(String(128))
    workers_wanted: Mapped[int]
    workers_running: Mapped[int] = mapped_column(default=0)
    cores: Mapped[int]
    memory: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16), default=State.REQUESTED)
    reason: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float]
    expires_at: Mapped[float]
    next_worker: Mapped[int] = mapped_column(default=1)
    workers_lost: Mapped[int] = mapped_column(default=0)
    has_run: Mapped[bool] = mapped_column(default=False)
    forgotten: Mapped[bool] = mapped_column(default=False)

    jobs: Mapped[list["ClusterJob"]] = relationship(
        order_by="ClusterJob.number", cascade="all, delete-orphan", lazy="selectin"
    )
    events: Mapped[list["Event"]] = relationship(order_by="Event.number", cascade="all, delete-orphan", lazy="selectin")

    def wish(self) -> Wish:
        """What :func:`af_hub.controller.plan.plan` wants to know."""
        return Wish(
            id=self.id,
            state=State(self.state),
            site=self.site,
            workers=self.workers_wanted,
            expires_at=self.expires_at,
            image=self.image,
            cores=self.cores,
            memory=self.memory,
            account=self.account,
            reason=self.reason,
            tracked=tuple(Tracked(Role(one.role), one.worker, one.job, one.retiring_since) for one in self.jobs),
            next_worker=self.next_worker,
            workers_lost=self.workers_lost,
            has_run=self.has_run,
            ran_at=min((event.at for event in self.events if event.state == State.RUNNING), default=None),
            forgotten=self.forgotten,
        )


class ClusterJob(Base):
    """One batch job, written down before it is submitted; ``job`` is its number at the access point, empty until that is known."""

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("cluster_id", "role", "worker"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(16))
    worker: Mapped[str] = mapped_column(String(32), default="")
    job: Mapped[str] = mapped_column(String(32), default="")
    retiring_since: Mapped[float | None] = mapped_column(default=None)


class Event(Base):
    """One change of a cluster: when, to which state, and a sentence."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "cluster_id"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"))
    at: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))
    sentence: Mapped[str]
