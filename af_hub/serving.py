"""Whether the hub can do its work: the hop from whatever sends people to it, or starts it anew, to the hub.

``GET /hub/af/ready`` answers 200, or 503 with a sentence for what is wrong: a start that is not over, after which alone the proxy has the
hub's routes; a part that has ended, such as the token keeper, the look at the policy, or one of KubeSpawner's watchers of pods and events,
which give up when the API server was away for long and say so in the log alone: from then on the hub takes every pod to be as it was, until
:class:`~af_hub.spawner.AFSpawner` looks at a session and begins them anew. Promises: nothing of a person or a secret is in it, so that
anybody may ask.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from tornado.web import RequestHandler

PATH = "/af/ready"


def ended(tasks: Iterable["asyncio.Task[Any]"]) -> list[str]:
    """A sentence for each background task that runs no more."""
    return [f"The {task.get_name()} has ended." for task in tasks if task.done()]


def has_given_up(reflector: Any) -> bool:
    """Whether one of KubeSpawner's reflectors (7.1) will bring no more news; one that has not begun yet may."""
    loaded, watching = reflector.first_load_future, reflector.watch_task
    never_loaded = loaded.done() and (loaded.cancelled() or loaded.exception() is not None)
    return never_loaded or (watching is not None and watching.done())


def given_up(reflectors: Mapping[Any, Any]) -> list[str]:
    """A sentence for each reflector that has given up."""
    return [f"The watcher of {one.kind} has given up." for one in reflectors.values() if has_given_up(one)]


class Ready(RequestHandler):
    """``GET /hub/af/ready``."""

    def get(self) -> None:
        """Say what does not work."""
        begun: asyncio.Future[None] = self.settings["app"]._start_future  # JupyterHub 6.1 tells it nowhere else
        wrong = [] if begun.done() else ["The hub is still starting."]
        wrong += ended(self.settings["authenticator"].background)
        wrong += given_up(getattr(self.settings["spawner_class"], "reflectors", {}))
        self.set_status(503 if wrong else 200)
        self.set_header("Cache-Control", "no-store")
        self.finish({"ready": not wrong, "wrong": wrong})

    def _log(self) -> None:
        """Say nothing of what is asked every few seconds and is well."""
        if self.get_status() != 200:
            super()._log()


HANDLERS = [(PATH, Ready)]
