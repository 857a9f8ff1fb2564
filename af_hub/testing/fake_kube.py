"""As much of Kubernetes' API as a hub needs that starts sessions as pods, and a kubelet that only says that they run; on loopback ports.

For tests of what a hub asks for, and what it does with answers, without a cluster. It refuses what the real API would refuse of such requests: a
wrong token, a name that is taken, an image with blanks around it, what the Role lacks. Watches are replayed from the resource version that
they name, as the real ones are: a hub that lists and then watches misses nothing.

Any server of a pod answers 200 to everything, at one port for all of them: no process is started.
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from af_hub.files import write_private

Object = dict[str, Any]
KINDS = ("pods", "events", "secrets", "persistentvolumeclaims", "resourcequotas")
MOST_WATCH_SECONDS = 600.0


@dataclass
class FakeKube:
    """Objects by kind, namespace and name, and everything that happened to them.

    Parameters
    ----------
    lacking
        Verb and kind of what the hub's Role does not allow, as in ``("delete", "pods")``.
    starts
        What becomes of a new pod: its status. None leaves it pending.
    """

    lacking: set[tuple[str, str]] = field(default_factory=set)
    starts: Callable[[Object, str], Object | None] = lambda pod, address: running(pod, address)
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    asked: list[Object] = field(default_factory=list, repr=False)
    """Every pod that the API was asked to make, refused ones too."""
    url: str = ""
    server_port: int = 0
    """Where the servers of all pods answer, on loopback."""
    _store: dict[tuple[str, str, str], Object] = field(default_factory=dict, repr=False)
    _history: list[tuple[int, str, Object]] = field(default_factory=list, repr=False)
    _version: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _runners: list[web.AppRunner] = field(default_factory=list, repr=False)

    async def __aenter__(self) -> Self:
        api = web.Application(middlewares=[self._admit])
        one = "/api/v1/namespaces/{namespace}/{kind}"
        api.router.add_get(one, self._list)
        api.router.add_post(one, self._create)
        api.router.add_get(one + "/{name}", self._get)
        api.router.add_delete(one + "/{name}", self._delete)
        api.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review)
        server = web.Application()
        server.router.add_route("*", "/{path:.*}", answer_anything)
        self.url = f"http://127.0.0.1:{await self._serve(api, '127.0.0.1')}"
        self.server_port = await self._serve(server, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, app: web.Application, host: str) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, host, 0).start()
        return int(runner.addresses[0][1])

    def kubeconfig(self, folder: Path) -> Path:
        """A file with which a client finds this API, private since it holds the token."""
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "hub", "user": {"token": self.token}}],
            "contexts": [{"name": "hub", "context": {"cluster": "fake", "user": "hub"}}],
            "current-context": "hub",
        }
        return write_private(folder / "kubeconfig", json.dumps(found))

    def objects(self, kind: str) -> list[Object]:
        """All that there are of a kind now."""
        return [found for (one, _, _), found in list(self._store.items()) if one == kind]

    def images_asked(self) -> list[str]:
        """The image of the user's container of every pod that was asked for."""
        return [
            next(one["image"] for one in pod["spec"]["containers"] if one["name"] == "notebook") for pod in self.asked
        ]

    # --- what it answers

    @web.middleware
    async def _admit(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return refusal(401, "Unauthorized", "no token, or a wrong one")
        kind = request.match_info.get("kind")
        if kind and kind not in KINDS:
            return refusal(404, "NotFound", f"the server could not find the requested resource {kind}")
        if kind and (_verb(request), kind) in self.lacking:
            return refusal(403, "Forbidden", f"{kind} is forbidden: User cannot {_verb(request)} resource")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _review(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        attributes = asked["spec"]["resourceAttributes"]
        allowed = (attributes["verb"], attributes["resource"]) not in self.lacking
        return web.json_response({**asked, "status": {"allowed": allowed}}, status=201)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        wanted = _wanted(request)
        if request.query.get("watch") in ("true", "True", "1"):
            return await self._watch(request, wanted)
        items = [found for key, found in self._store.items() if wanted(key[0], found)]
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, wanted: Callable[[str, Object], bool]) -> web.StreamResponse:
        seen = int(request.query.get("resourceVersion") or self._version)
        seconds = min(float(request.query.get("timeoutSeconds") or MOST_WATCH_SECONDS), MOST_WATCH_SECONDS)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    changed = self._changed
                    for version, what, found in self._history[seen:]:  # one entry for each version
                        seen = version
                        if wanted(found["_kind"], found):
                            line = {
                                "type": what,
                                "object": {key: value for key, value in found.items() if key != "_kind"},
                            }
                            await answer.write(json.dumps(line).encode() + b"\n")
                    await changed.wait()
        except (TimeoutError, ConnectionError):
            pass
        return answer

    async def _get(self, request: web.Request) -> web.StreamResponse:
        found = self._store.get(_key(request, request.match_info["name"]))
        return web.json_response(found) if found else refusal(404, "NotFound", "not found")

    async def _create(self, request: web.Request) -> web.StreamResponse:
        made, kind = await request.json(), request.match_info["kind"]
        if kind == "pods":
            self.asked.append(made)
        key = _key(request, made["metadata"]["name"])
        if key in self._store:
            return refusal(409, "AlreadyExists", f'{kind} "{key[2]}" already exists')
        if kind == "pods" and any(one["image"] != one["image"].strip() for one in _containers(made)):
            return refusal(422, "Invalid", "spec.containers[0].image: must not have leading or trailing whitespace")
        made["metadata"] |= {"namespace": key[1], "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        if kind == "pods":
            made["status"] = {"phase": "Pending"}
        self.change("ADDED", key, made)
        if kind == "pods" and (status := self.starts(made, "127.0.0.1")):
            self.event(made, "Scheduled", "Successfully assigned")
            self.change("MODIFIED", key, {**made, "status": status})
        return web.json_response(made, status=201)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        key = _key(request, request.match_info["name"])
        found = self._store.pop(key, None)
        if found is None:
            return refusal(404, "NotFound", "not found")
        self.change("DELETED", key, found)
        owned = [one for one, other in self._store.items() if found["metadata"]["uid"] in _owners(other)]
        for one in owned:
            self.change("DELETED", one, self._store.pop(one))
        return web.json_response(found)

    def change(self, what: str, key: tuple[str, str, str], found: Object) -> None:
        """Let something happen to an object, and tell those who watch."""
        self._version += 1
        found = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}
        if what != "DELETED":
            self._store[key] = found
        self._history.append((self._version, what, {**found, "_kind": key[0]}))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def event(self, pod: Object, reason: str, message: str, kind: str = "Normal") -> None:
        """Say something of a pod, as scheduler and kubelet do."""
        name = f"{pod['metadata']['name']}.{uuid.uuid4().hex[:8]}"
        about = {"kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "namespace", "uid")}}
        metadata = {"name": name, "namespace": about["namespace"], "uid": str(uuid.uuid4())}
        found = {"metadata": metadata, "involvedObject": about, "reason": reason, "message": message, "type": kind}
        times = {"firstTimestamp": _now(), "lastTimestamp": _now(), "eventTime": None, "count": 1}
        self.change("ADDED", ("events", about["namespace"], name), found | times)


async def answer_anything(_: web.Request) -> web.Response:
    """As the server of any pod does."""
    return web.Response(text="{}")


def running(pod: Mapping[str, Any], address: str) -> Object:
    """The status of a pod all of whose containers run."""
    state = {"running": {"startedAt": _now()}}

    def statuses(part: str) -> list[Object]:
        return [
            {
                "name": one["name"],
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": one["image"],
                "imageID": one["image"],
                "state": state,
            }
            for one in pod["spec"].get(part) or []
        ]

    ready = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
    inits, containers = statuses("initContainers"), statuses("containers")
    where = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": address}
    return {
        "phase": "Running",
        **where,
        "conditions": ready,
        "initContainerStatuses": inits,
        "containerStatuses": containers,
    }


def refusal(status: int, reason: str, message: str) -> web.Response:
    """Kubernetes' ``Status``."""
    said = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": status,
        "reason": reason,
        "message": message,
    }
    return web.json_response(said, status=status)


def _verb(request: web.Request) -> str:
    if request.method == "GET" and "name" not in request.match_info:
        return "watch" if request.query.get("watch") else "list"
    return {"GET": "get", "POST": "create", "DELETE": "delete"}[request.method]


def _wanted(request: web.Request) -> Callable[[str, Object], bool]:
    """Whether an object is of the kind, in the namespace and with the labels (``a=b,c=d``) that are asked for."""
    namespace, kind = request.match_info["namespace"], request.match_info["kind"]
    labels = dict(pair.split("=", 1) for pair in request.query.get("labelSelector", "").split(",") if pair)

    def wanted(found_kind: str, found: Object) -> bool:
        metadata = found["metadata"]
        has = metadata.get("labels") or {}
        return (found_kind, metadata["namespace"]) == (kind, namespace) and labels.items() <= has.items()

    return wanted


def _key(request: web.Request, name: str) -> tuple[str, str, str]:
    return request.match_info["kind"], request.match_info["namespace"], name


def _containers(pod: Mapping[str, Any]) -> Iterable[Object]:
    return [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]


def _owners(found: Object) -> set[str]:
    return {one["uid"] for one in found["metadata"].get("ownerReferences") or []}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
