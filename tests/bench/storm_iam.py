"""``python -m tests.bench.storm_iam PEOPLE``: a demo IAM in a process of its own, that counts; for :mod:`tests.bench.storm`.

Says on standard output where it is and everybody's refresh token, and, for each line that it reads, what it was asked since the line before.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from af_hub.testing.iam import DemoIAM
from af_hub.testing.iam_oauth import DemoClient
from af_hub.testing.iam_tokens import DemoUser

SCOPES = ("openid", "profile", "wlcg.groups", "offline_access")
ANSWER_SECONDS = 0.05
"""What an IAM with a database behind it takes, and more."""


class CountingIAM(DemoIAM):
    """Knows how many requests were there at one time."""

    now = most = 0

    @web.middleware
    async def _fail(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(ANSWER_SECONDS)
            answer: web.StreamResponse = await handler(request)
            return answer
        finally:
            self.now -= 1

    def report(self) -> dict[str, Any]:
        """What was asked since the last time, and how many families of refresh tokens are void."""
        asked, most = Counter(self.asked), self.most
        families = {id(grant): grant for grant in self.grants.values()}
        self.asked.clear()
        self.most = 0
        return {"asked": asked, "most": most, "void": sum(grant.revoked for grant in families.values())}


async def main(people: int) -> None:
    """Serve until standard input ends."""
    client = DemoClient("hub", "s3cret", (), SCOPES)
    names = [f"user{number:04}" for number in range(people)]
    users = [DemoUser(name, f"sub-{name}", groups=("/cms", "/cms/itcms")) for name in names]
    async with CountingIAM(users, [client], algorithm="ES256") as iam:
        iam.clients["reusing"] = DemoClient("reusing", "s3cret", (), SCOPES, reuse_refresh_tokens=True)
        tokens = {name: [iam.grant(client, name, SCOPES) for _ in range(2)] for name in names}
        print(json.dumps({**iam.facts(), "tokens": tokens}), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(iam.report()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
