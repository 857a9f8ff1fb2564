"""A hub's keeper in a process of its own, which dies at one point of a refresh, as by ``kill -9`` or a power cut. Run by test_fault_points."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import Connection, Engine, event

from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient, TokenAnswer
from af_hub.tokens.keeper import Purpose, TokenKeeper
from af_hub.tokens.store import Login, Store

POINT = sys.argv[1]


def here(point: str) -> None:
    """Die if this is the point."""
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(Store):
    def begin_flight(self, username: str, now: float) -> None:
        here("before the note")
        super().begin_flight(username, now)
        here("noted")

    def write_login(self, username: str, login: Login) -> None:
        event.listen(Engine, "commit", self._commits)
        super().write_login(username, login)
        here("stored")

    def _commits(self, connection: Connection) -> None:
        here("half stored")


class MortalClient(IAMClient):
    async def refresh(self, *arguments: Any) -> TokenAnswer:
        answer = await super().refresh(*arguments)
        here("heard")
        return answer


async def main(facts: dict[str, str]) -> None:
    client = MortalClient(Discovery(facts["issuer"], facts["discovery"]), "hub", "s3cret", lambda: float(facts["now"]))
    keeper = TokenKeeper(
        MortalStore(Path(facts["database"]), [Fernet(facts["key"])]),
        {facts["issuer"]: client},
        lambda _: Purpose(facts["scope"]),
        lambda: float(facts["now"]),
    )
    asking = asyncio.create_task(keeper.access_token("ada"))
    if POINT == "waiting":  # the IAM is silent
        while not [task for task in keeper._asking._under_way if keeper._asking._calls[facts["issuer"]]._value < 8]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        here("waiting")
    if POINT == "stopped":  # the IAM is slow
        await asyncio.sleep(0.4)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as JupyterHub does on SIGTERM
        return
    await asking
    here("answered")


asyncio.run(main(json.load(sys.stdin)))
