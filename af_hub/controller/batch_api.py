"""The REST route of whoever is about to submit plain batch jobs: have the token for them brought to the pool now."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from af_hub.controller.api import Body, Caller, Controller

router = APIRouter(prefix="/api")


class JobTokens(Body):
    """For which pool."""

    pool: str = Field("", max_length=64, description="A name of `facility.yaml`; all that are open to you when empty.")


class JobTokensView(BaseModel):
    """Where jobs get a token now; never the token."""

    pools: dict[str, float] = Field(
        description="When it ends, by the pool's name. Jobs that run longer get the next one."
    )


@router.post("/job-tokens")
async def bring_job_tokens(asked: JobTokens, caller: Caller, parts: Controller) -> JobTokensView:
    """Bring your token for storage to where your batch jobs get it; 403 where they get none."""
    return JobTokensView(pools=await parts.batch.bring(caller.name, asked.pool))
