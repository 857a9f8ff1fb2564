"""Sessions as plain processes on the hub's own machine, each held by its supervisor; for one machine and one person."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future, random_port
from traitlets import Float, List, Unicode, default

from af_hub.errors import AFError
from af_hub.files import open_log, write_private
from af_hub.session import fragments
from af_hub.session.folders import make_home, new_session_folder, safe_name, write_files
from af_hub.session.fragments import SessionFragment
from af_hub.session.options import Reason, SessionOptions
from af_hub.session.processes import Identity, marked
from af_hub.session.supervisor import MARK, READY_FD, SIGNPOST_FD
from af_hub.session.tokenfile import TokenFile
from af_hub.session.xrootd import CACHE
from af_hub.spawning.agent import SHARED_SCOPES
from af_hub.spawning.choosing import ChoosingSpawner
from af_hub.spawning.waiting import LOOK_SECONDS, comes_up

# Kernels listen on ports of the loopback and tell whatever they print to everybody who connects, unless there are keys for it
# (jupyter_client 8.10; one that does not know the setting passes over it).
PRIVATE_KERNELS = ("--KernelManager.transport_encryption=auto",)

AT_HAND_SECONDS = 1.0
"""For which a session that begins waits for the hub's own token."""


class LocalAFSpawner(ChoosingSpawner, Spawner):  # type: ignore[misc]  # JupyterHub has no types
    """Sessions as plain processes of the hub's own user, on the hub's own machine.

    An "image" is the folder of a Python environment. Limit: there is one OS user, so code in one session can read all others; this
    is for one person, or for people who trust each other. Sizes are told to the session, not enforced.
    """

    state_dir = Unicode(
        help="""
        Where homes (``home/``), logs (``log/``) and the folders of running sessions (``run/``) are.

        When unset, the environment variable ``AF_STATE_DIR``, else ``state`` in the hub's own folder. Keep it short: a Unix socket
        lies in it, and its path may have 107 bytes.

        Example::

            c.LocalAFSpawner.state_dir = "/srv/af-hub"
        """
    ).tag(config=True)

    @default("state_dir")
    def _state_dir(self) -> str:
        return str(Path(os.environ.get("AF_STATE_DIR") or "state").absolute())

    tools = List(
        Unicode(),
        help="""
        Folders with programs that people find in every session, after those of their image: HTCondor's, for instance.

        When unset, sessions have what their image has, and what lies in ``/usr/local/bin`` and ``/usr/bin``.

        Example::

            c.LocalAFSpawner.tools = ["/opt/condor/bin"]
        """,
    ).tag(config=True)

    stop_timeout = Float(
        20,
        help="""
        Seconds that a session has to end when it is told to, kernels included; then everything that came from it is killed.

        Example::

            c.LocalAFSpawner.stop_timeout = 60
        """,
    ).tag(config=True)

    _child: subprocess.Popen[bytes] | None = None
    _supervisor: Identity | None = None
    _folder: Path | None = None

    @default("ip")
    def _ip(self) -> str:
        return "127.0.0.1"

    @default("env_keep")
    def _env_keep(self) -> list[str]:
        # Nothing else: the hub's own environment holds its secrets.
        return ["LANG", "LC_ALL", "TZ"]

    @default("server_token_scopes")
    def _server_token_scopes(self) -> list[str]:
        return SHARED_SCOPES

    # --- start, poll, stop --------------------------------------------------------------------------------------------

    async def start(self) -> tuple[str, int]:
        """Check the choice a last time, write what the session gets, and start its supervisor."""
        options, rights, policy = await self._checked(self.user_options)
        python = self._python_of(options)
        self.cpu_limit, self.mem_limit = options.size.cpus, options.size.memory
        self.port: int = self.port or random_port()
        try:
            self._folder = new_session_folder(Path(self.state_dir) / "run")
            fragment = self.describe(options, rights, policy, str(self._folder))
            write_files(self._folder, fragment.files)
            has_token = await self._leave_token(self._folder)
            home = make_home(
                Path(self.state_dir) / "home", self.user.name, Path(self.welcome) if self.welcome else None
            )
        except (AFError, OSError) as error:
            self._clean_up()
            self._refuse(f"The session cannot be prepared: {error}", Reason.FACILITY, 500)
        told = self._tell_agent(fragment, str(self._folder), rights, policy)
        self._supervisor = self._start_supervisor(python, home, fragment, has_token, told)
        image, size = options.choice.values()
        self.log.info("session of %s begins: image %s, size %s", self._log_name, image, size)
        self._be_adoptable()
        await self._until_it_answers()
        return self.ip, self.port

    async def _leave_token(self, folder: Path) -> bool:
        """Put the first access token there if it is at hand; says whether. Else the session waits for its agent to bring it."""
        asking = asyncio.ensure_future(maybe_future(self.authenticator.session_token(self.user)))
        # Not cancelled when it takes long: a refresh that was begun has to be written down.
        asking.add_done_callback(lambda one: one.cancelled() or one.exception())
        done, _ = await asyncio.wait({asking}, timeout=AT_HAND_SECONDS)
        if not done or asking.exception() is not None:
            return False
        TokenFile(folder / fragments.TOKEN_FILE).replace(asking.result())
        return True

    def _be_adoptable(self) -> None:
        if self.server is not None:
            self.server.ip, self.server.port = self.ip, self.port
        super()._be_adoptable()

    async def _until_it_answers(self) -> None:
        """Wait until the person's server answers.

        Raises
        ------
        SessionRefused
            When it ended, or did not answer in time; the sentence says where the log is.
        """
        seconds = min(self.first_token_timeout + self.http_timeout, self.start_timeout - 1)
        base = self.server.base_url if self.server else "/"
        answers = asyncio.create_task(comes_up(f"http://{self.ip}:{self.port}", base, seconds))
        while not answers.done() and self._supervisor is not None and self._supervisor.alive():
            await asyncio.wait({answers}, timeout=LOOK_SECONDS)
        if not answers.done():
            answers.cancel()
            status = self._child.wait() if self._child is not None else "unknown"
            self._refuse(
                f"Your session ended while it started (exit status {status}). {self._where_to_look()}", Reason.DIED, 500
            )
        if not answers.result():
            self._refuse(
                f"Your session did not answer within {seconds:g} seconds and was ended. {self._where_to_look()}",
                Reason.SILENT,
                500,
            )

    def _where_to_look(self) -> str:
        return (
            f"What it said last stands in its log, {self._log_path()}, for the facility's administrators. If you changed the settings "
            "of Jupyter or of Python in your home lately, undo that."
        )

    def _python_of(self, options: SessionOptions) -> Path:
        environment = options.image.environment
        if environment is None or not environment.is_absolute():
            self._refuse(
                f"The image {options.image_name!r} has no `environment` in facility.yaml that is an absolute path, so it cannot run as a plain process.",
                Reason.FACILITY,
                500,
            )
        for program in ("python", "jupyterhub-singleuser"):
            if not os.access(environment / "bin" / program, os.X_OK):
                self._refuse(
                    f"The image {options.image_name!r} ({environment}) has no bin/{program}; ask the facility's administrators.",
                    Reason.FACILITY,
                    500,
                )
        return environment / "bin" / "python"

    def _start_supervisor(
        self, python: Path, home: Path, fragment: SessionFragment, has_token: bool, told: Mapping[str, Any]
    ) -> Identity | None:
        assert self._folder is not None
        agent_argv = [*_ours("agent"), "--config", str(self._folder / "agent.json"), "--ready-fd", READY_FD]
        plan = {
            "agent": [*agent_argv, *(["--signpost-fd", SIGNPOST_FD] if CACHE in fragment.environment else [])],
            # By its script, not by `-m`: that would put the person's home first where Python looks for modules.
            "server": [str(python), str(python.parent / "jupyterhub-singleuser"), *self.get_args(), *PRIVATE_KERNELS],
            "folder": str(self._folder),
            "home": str(home),
            "first_token": 0.0 if has_token else self.first_token_timeout,
            "grace": self.stop_timeout / 2,
        }
        environment = self._environment(python, home, fragment)
        agent = {**told, "hub_api_url": environment["JUPYTERHUB_API_URL"], "hub_token": self.api_token}
        write_private(self._folder / "plan.json", json.dumps(plan))
        write_private(self._folder / "agent.json", json.dumps(agent))
        with self._new_log() as log:
            self._child = subprocess.Popen(
                [*_ours("supervisor"), "--config", str(self._folder / "plan.json")],
                env=environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Identity.of(self._child.pid)

    async def describe_environment(self, choice: object, folder: Path) -> tuple[dict[str, str], Mapping[str, str]]:
        """What a session in ``folder`` would have, and its files; the hub token is what ``api_token`` says.

        Raises
        ------
        SessionRefused
            When there can be no such session.
        """
        options, rights, policy = await self._checked(choice)
        python, home = self._python_of(options), Path(self.state_dir) / "home" / safe_name(self.user.name)
        self.cpu_limit, self.mem_limit, self._folder = options.size.cpus, options.size.memory, folder
        fragment = self.describe(options, rights, policy, str(folder))
        return self._environment(python, home, fragment), fragment.files

    def _environment(self, python: Path, home: Path, fragment: SessionFragment) -> dict[str, str]:
        """The session's whole environment; the administrator's ``Spawner.environment`` has the last word."""
        assert self._folder is not None
        return {
            **fragment.environment,
            "PATH": ":".join([str(python.parent), *self.tools, "/usr/local/bin:/usr/bin:/bin"]),
            "VIRTUAL_ENV": str(python.parent.parent),
            "HOME": str(home),
            "USER": self.user.name,
            "SHELL": "/bin/bash",
            "JUPYTER_RUNTIME_DIR": str(self._folder / "jupyter"),
            **self.get_env(),
            MARK: str(self._folder),
        }

    def _new_log(self) -> BinaryIO:
        """The session's log, 0600; that of the session before is kept beside it."""
        path = self._log_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            path.replace(f"{path}.before")
        return open_log(path)

    def _log_path(self) -> Path:
        name = f"{self.user.name}/{self.name}" if self.name else self.user.name
        return Path(self.state_dir) / "log" / f"session-{safe_name(name)}.log"

    async def poll(self) -> int | None:
        """None while the supervisor lives, else its exit status (0 when nobody knows); leaves nothing of a dead session behind."""
        if self._supervisor is not None and self._supervisor.alive():
            return None
        status = self._child.poll() if self._child is not None else None
        self._clean_up()
        return status or 0

    async def stop(self, now: bool = False) -> None:
        """Tell the supervisor to end its session, wait, then kill what is left."""
        if self._supervisor is not None and not now and self._supervisor.send(signal.SIGTERM):
            await self._gone(self.stop_timeout)
        self._clean_up()

    async def _gone(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while self._supervisor is not None and self._supervisor.alive():
            if asyncio.get_running_loop().time() > deadline:
                self.log.warning("session of %s did not end in %g s and is killed", self._log_name, seconds)
                return
            await asyncio.sleep(0.05)

    def _clean_up(self) -> None:
        """Kill every process that carries the session's mark, and remove its folder."""
        if self._folder is not None:
            for process in marked(MARK, str(self._folder)):
                process.send(signal.SIGKILL)
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._child is not None:
            self._child.poll()

    # --- state --------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """What a new hub needs to adopt the session."""
        state: dict[str, Any] = super().get_state()
        if self._supervisor is not None:
            state |= {"pid": self._supervisor.pid, "started": self._supervisor.started, "folder": str(self._folder)}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Adopt the session that an earlier hub started."""
        super().load_state(state)
        if "pid" in state:
            self._supervisor = Identity(state["pid"], state["started"])
            self._folder = Path(state["folder"])

    def clear_state(self) -> None:
        """Forget the session, which is over."""
        super().clear_state()
        self._child = self._supervisor = self._folder = None


def _ours(module: str) -> list[str]:
    """How to start a module of :mod:`af_hub.session` with our own Python, whatever stands in the folder where it starts."""
    return [sys.executable, "-P", "-m", f"af_hub.session.{module}"]
