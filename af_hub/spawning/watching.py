"""The pod of a start as the watch shows it: until the person's server answers, or clearly will not; in a sentence at any moment.

Promises: what can only fail ends at once, and says why. What a pod's state means is decided by :mod:`af_hub.spawning.progress` and
:mod:`af_hub.spawning.failures`, what the API's answers mean by :mod:`af_hub.spawning.answers`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, NoReturn

from kubernetes_asyncio.client import ApiException

from af_hub.session.options import Reason
from af_hub.spawning.answers import AWAY, read_answer
from af_hub.spawning.failures import why_not
from af_hub.spawning.podstate import Event, is_over, of_pod, server_is_up
from af_hub.spawning.preparing import PreparingSpawner
from af_hub.spawning.progress import where_it_is
from af_hub.spawning.sentences import Ended, Step
from af_hub.spawning.steady import comes_back
from af_hub.spawning.waiting import comes_up

LOOK_SECONDS = 0.2
"""How often a pod that starts is looked at; what KubeSpawner's watch brought is in memory."""

PROGRESS_SECONDS = 1.0
ADOPT_SECONDS = 60.0
"""For which a new hub waits for a session that the one before it had begun to start."""


class WatchingSpawner(PreparingSpawner):
    """Sees what becomes of the pod."""

    _pod_uid = ""
    """Of the pod of this start; empty while there is none."""

    async def _until_it_runs(self, starting: Coroutine[Any, Any, str]) -> str:
        """Wait for KubeSpawner, or see it earlier; a pod that cannot come up is not waited for."""
        task = asyncio.ensure_future(starting)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                pod = self._own_pod()
                if ended := why_not(pod, self._own_events(), self._chosen):
                    self._end(ended)
                if server_is_up(pod):
                    return str(self._get_pod_url(pod))
            return task.result()
        finally:
            task.cancel()

    async def _until_it_answers(self, url: str) -> None:
        """Wait until the person's server answers, as long as its pod lives."""
        base = self.server.base_url if self.server else "/"
        answering = asyncio.create_task(comes_up(url, base, self.start_timeout))
        try:
            while not answering.done():
                await asyncio.wait({answering}, timeout=LOOK_SECONDS)
                if ended := why_not(self._own_pod(), self._own_events(), self._chosen):
                    self._end(ended)
        finally:
            answering.cancel()

    def _own_pod(self) -> dict[str, Any] | None:
        """The pod of this start, as the watch saw it last."""
        found = self._seen_pod()
        return found if found and found["metadata"]["uid"] == self._pod_uid else None

    def _seen_pod(self) -> dict[str, Any] | None:
        """The pod of this name, as the watch saw it last."""
        pods: dict[str, Any] = self.pod_reflector.pods if self.pod_reflector else {}
        return pods.get(f"{self.namespace}/{self.pod_name}")

    def _own_events(self) -> list[Event]:
        reflector = self.event_reflector
        return of_pod(list(reflector.resources.values()), self._pod_uid) if reflector and self._pod_uid else []

    def _step(self) -> Step:
        """What the session does now."""
        if not self._pod_uid:
            return self._doing
        return where_it_is(self._own_pod(), self._own_events(), time.time(), self._chosen)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the session does while it starts, each time it is something new; for the page on which somebody waits."""
        said, told = "", 0
        while self._start_future is None or not self._start_future.done():
            step = self._step()
            for remark in self._remarks[told:]:
                told += 1
                yield {"progress": step.percent, "message": remark}
            if step.sentence != said:
                said = step.sentence
                yield {"progress": step.percent, "message": step.sentence}
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _adopt(self) -> None:
        """Wait for a session that was starting when the hub before this one ended; one that does not come up is removed."""
        until = time.monotonic() + ADOPT_SECONDS
        while (pod := self._seen_pod()) is not None and not server_is_up(pod) and not is_over(pod):
            if time.monotonic() > until or why_not(pod, self._own_events(), self._chosen):
                await self.stop(now=True)
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _why(self, error: Exception, asked: str) -> Ended:
        """What became of a request, or of the time."""
        self.log.warning("%s: cannot %s: %r", self._log_name, asked, error)
        if isinstance(error, ApiException) and not comes_back(error):
            return read_answer(error.status, str(error.body or error.reason or ""), asked)
        if not isinstance(error, TimeoutError) or not self._pod_uid:
            return AWAY
        return Ended(
            Reason.SILENT,
            f"Your session did not start within {self.start_timeout} seconds and was ended. The last that was seen: {self._step().sentence}",
        )

    def _end(self, ended: Ended) -> NoReturn:
        self._refuse(ended.sentence, ended.reason, 500)
