"""What code in a session that is a pod can do, on a real cluster: what its owner may, and nothing more. And its token: whole, fresh, its own.

The attacker is the user's own code: all of it runs in a kernel of the session. The cluster's administrator looks from outside.
"""

import base64
import hashlib
import json
import re
import signal
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from af_hub.demo.check import spawn, wait_until
from af_hub.demo.notebook import open_kernel
from af_hub.session.processes import Identity
from af_hub.testing.browser import xsrf_headers

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300, func_only=True)]

ANALYST, COLLEAGUE, IMAGE = "cms-analyst", "cms-colleague", "python-analysis"
CELL_SECONDS, AGENT_SECONDS = 60, 40
# An hour of the IAM: all else is real and has the real time.
HOUR = 20.0
FACILITY = {"token_seconds": HOUR}
JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+")


class Session:
    """Somebody's session: code runs in its kernel, and answers JSON."""

    def __init__(self, in_pods, username, kernel, name=""):
        self.in_pods, self.username, self.kernel, self.name = in_pods, username, kernel, name

    def run(self, code):
        printed = self.kernel.run(textwrap.dedent(code), CELL_SECONDS)
        return json.loads(printed.rpartition("\n")[2] or printed)

    @property
    def pod(self):
        """Its pod, as the API server tells it."""
        return self.in_pods.find("pod", self.run("import json, os; print(json.dumps(os.uname().nodename))"))

    @property
    def secret(self):
        """Texts of its Secret, by key."""
        names = {volume["secret"]["secretName"] for volume in self.pod["spec"]["volumes"] if "secret" in volume}
        data = self.in_pods.find("secret", *names)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def agent(self):
        """How the sidecar is."""
        statuses = self.pod["status"]["initContainerStatuses"]
        return next(one for one in statuses if one["name"] == "agent")


@pytest.fixture(scope="module")
def sessions(in_pods):
    """Open somebody's session, a named one too; they end with the module."""
    with ExitStack() as stack:
        started = {}

        def start(username, name=""):
            if (username, name) not in started:
                browser = in_pods.browser(username)
                if name:
                    start_named(browser, username, name)
                else:
                    spawn(browser, username, IMAGE)
                stack.callback(stop, browser, username, name)
                kernel = stack.enter_context(open_kernel(browser, f"/user/{username}/{name + '/' if name else ''}"))
                started[username, name] = Session(in_pods, username, kernel, name)
            return started[username, name]

        yield start
    wait_until(lambda: not in_pods.names("pods"), "all pods are gone", 60)


def start_named(browser, username, name):
    """Press Start on the spawn page of a named server."""
    browser.get(f"/hub/spawn/{username}/{name}").raise_for_status()
    form = {"image": IMAGE, "size": "small"}
    browser.post(f"/hub/spawn/{username}/{name}", headers=xsrf_headers(browser), data=form).raise_for_status()
    lab = f"/user/{username}/{name}/lab"

    def serves():
        # Until its own way is there, the proxy takes it for a page of the person's default server.
        found = browser.get(lab)
        return found.status_code == 200 and found.url.path.startswith(lab)

    wait_until(serves, "JupyterLab answers", 90)


def stop(browser, username, name):
    path = f"servers/{name}" if name else "server"
    browser.delete(f"/hub/api/users/{username}/{path}", headers=xsrf_headers(browser)).raise_for_status()


@pytest.fixture(scope="module")
def analyst(sessions):
    return sessions(ANALYST)


def test_the_users_process_cannot_become_root(analyst):
    found = analyst.run("""
        import ctypes, json, os, pathlib, subprocess

        status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
        libc = ctypes.CDLL(None, use_errno=True)

        def refused(call, *arguments):
            ctypes.set_errno(0)
            return libc[call](*arguments) == -1 and os.strerror(ctypes.get_errno())

        mine = pathlib.Path.home() / "mine"
        mine.write_bytes(pathlib.Path("/usr/bin/id").read_bytes())
        mine.chmod(0o6755)
        by_setuid = [subprocess.run(["su", "-c", "id -u"], capture_output=True, text=True, input="").stdout,
                     subprocess.run([str(mine), "-u"], capture_output=True, text=True).stdout.strip()]
        mine.unlink()
        NEWUSER, NEWNS = 0x10000000, 0x00020000
        print(json.dumps({
            "status": {name: status[name].split() for name in (
                "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
            "setuid(0)": refused("setuid", 0), "setgid(0)": refused("setgid", 0), "unshare": refused("unshare", NEWNS),
            "mount": refused("mount", b"none", b"/mnt", b"tmpfs", 0, None), "chroot": refused("chroot", b"/"),
            "ran": by_setuid,
        }))
    """)
    status = found.pop("status")
    assert status["Uid"] == ["1000"] * 4 and status["Gid"] == ["100"] * 4
    assert status["NoNewPrivs"] == ["1"] and status["Seccomp"] == ["2"]
    assert {status[name][0] for name in status if name.startswith("Cap")} == {"0000000000000000"}
    ran = found.pop("ran")
    assert ran == ["", "1000"]
    assert set(found.values()) == {"Operation not permitted"}, found


def test_no_account_at_the_api_server(analyst):
    found = analyst.run("""
        import json, os, ssl, urllib.error, urllib.request

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def ask(path):
            try:
                with urllib.request.urlopen("https://10.88.0.1:6443" + path, context=context, timeout=10) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        print(json.dumps({
            "files": os.path.exists("/var/run/secrets/kubernetes.io"),
            "answers": {path: ask(path) for path in (
                "/api/v1/namespaces/test-session-secure/pods", "/api/v1/namespaces/test-session-secure/secrets", "/api/v1/nodes")},
        }))
    """)
    assert not found["files"]
    assert set(found["answers"].values()) <= {401, 403}
    spec = analyst.pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    mounted = [volume for volume in spec["volumes"] if "projected" in volume]
    assert mounted == []


def test_the_agents_credentials_are_out_of_reach(analyst):
    """Of the other container, of which this one sees neither files nor processes."""
    told = json.loads(analyst.secret["agent.json"])
    digest = hashlib.sha256(told["hub_token"].encode()).hexdigest()
    found = analyst.run(f"""
        import hashlib, json, os, pathlib, re, stat

        wanted, length, where = {digest!r}, {len(told["hub_token"])}, []
        commands = []
        def look(path):
            try:
                data = pathlib.Path(path).read_bytes()
            except OSError:
                return
            for word in re.findall(rb"[A-Za-z0-9_-]+", data):
                if len(word) == length and hashlib.sha256(word).hexdigest() == wanted:
                    where.append(str(path))
        for folder in ("/run", "/etc", "/tmp", "/var", "/home"):
            for top, _, names in os.walk(folder):
                for name in names:
                    if stat.S_ISREG(os.lstat(os.path.join(top, name)).st_mode):
                        look(os.path.join(top, name))
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            look(process / "environ")
            look(process / "cmdline")
            commands.append((process / "cmdline").read_bytes().decode().replace("\\0", " "))
        print(json.dumps({{
            "where": where, "commands": commands, "folder": os.path.exists("/etc/af-agent"),
            "shared": sorted(os.listdir("/run/af")),
        }}))
    """)
    assert found["where"] == [] and not found["folder"]
    assert not any("af_hub.session.agent" in command for command in found["commands"])
    assert any("jupyterhub-singleuser" in command for command in found["commands"])
    assert "token" in found["shared"] and "agent.json" not in found["shared"]


def test_another_pod_is_out_of_reach(in_pods, analyst, sessions):
    """Its server wants its owner's login, its files are not there, and nothing else of it listens."""
    other = sessions(COLLEAGUE)
    other.run("import json, pathlib; pathlib.Path.home().joinpath('secret').write_text('hers'); print(json.dumps(0))")
    address = other.pod["status"]["podIP"]
    token = other.secret["hub-token"]
    found = analyst.run(f"""
        import json, os, pathlib, socket, urllib.error, urllib.request

        def status(path, token=""):
            headers = {{"Authorization": f"token {{token}}"}} if token else {{}}
            try:
                with urllib.request.urlopen(urllib.request.Request("http://{address}:8888" + path, headers=headers), timeout=10) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        def listens(port):
            with socket.socket() as one:
                one.settimeout(1)
                return one.connect_ex(({address!r}, port)) == 0

        print(json.dumps({{
            "homes": os.listdir("/home"),
            "files": status("/user/{COLLEAGUE}/api/contents/secret"),
            "with my token": status("/user/{COLLEAGUE}/api/contents/secret", os.environ["JUPYTERHUB_API_TOKEN"]),
            "ports": [port for port in (*range(8880, 8900), 18094, *range(40000, 40100)) if listens(port)],
        }}))
    """)
    assert ANALYST in found["homes"] and COLLEAGUE not in found["homes"]
    assert found["files"] in (401, 403) and found["with my token"] in (401, 403)
    assert found["ports"] == [8888]
    assert analyst.secret["hub-token"] != token


def test_nothing_that_is_told_of_a_session_holds_a_secret(in_pods, analyst):
    """Pods, events, config maps, logs of the API server's answers: for every secret that there is."""
    hub = in_pods.folder / "hub"
    secrets = {path.name: path.read_text().strip() for path in hub.iterdir() if path.name in FILES}
    assert set(secrets) == FILES
    secrets |= {"hub token": analyst.secret["hub-token"]}
    secrets |= {
        f"agent: {key}": value for key, value in json.loads(analyst.secret["agent.json"]).items() if key == "hub_token"
    }
    secrets |= analyst.run("""
        import json, os, pathlib

        print(json.dumps({"token": pathlib.Path(os.environ["BEARER_TOKEN_FILE"]).read_text(),
                          "own": os.environ["JUPYTERHUB_API_TOKEN"]}))
    """)
    everywhere = f"--namespace={in_pods.namespace}"
    told = in_pods.kube.kubectl(
        "get", "pods,events,configmaps,serviceaccounts,persistentvolumeclaims", everywhere, "-o", "yaml"
    )
    told += in_pods.kube.kubectl("describe", "pods", everywhere)
    for container in ("agent", "notebook"):
        told += in_pods.kube.kubectl("logs", analyst.pod["metadata"]["name"], f"--container={container}", everywhere)
    assert analyst.pod["metadata"]["name"] in told
    assert [name for name, value in secrets.items() if value in told] == []
    assert JWT.search(told) is None


FILES = {"crypt_key", "iam_client_secret", "controller_token", "proxy_password", "cookie_secret"}


def test_the_token_is_there_before_the_first_process(analyst):
    """0600, of the user's uid; XRootD takes it for protected data."""
    found = analyst.run("""
        import json, os, pathlib
        import uproot
        from af_hub.client.data import dataset

        token = pathlib.Path(os.environ["BEARER_TOKEN_FILE"])
        about, ready = token.stat(), pathlib.Path("/run/af/ready").stat()
        ticks = int(pathlib.Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(int(line.split()[1]) for line in open("/proc/stat") if line.startswith("btime"))
        with uproot.open(dataset("protected")[0]) as file:
            events = file["Events"].num_entries
        print(json.dumps({"mode": oct(about.st_mode & 0o7777), "owner": [about.st_uid, os.getuid()], "at": str(token),
                          "ready": ready.st_mtime, "began": booted + ticks / os.sysconf("SC_CLK_TCK"), "events": events}))
    """)
    assert found["mode"] == "0o600" and found["owner"] == [1000, 1000]
    assert found["at"] == "/run/af/token" and found["events"] > 0
    assert found["ready"] < found["began"] + 1, "btime is in whole seconds"


HOURS = 3
READER = """
    import base64, json, os, subprocess, sys, time

    READ = '''if True:
        import base64, json, os, sys, time

        path, into, hours = os.environ["BEARER_TOKEN_FILE"], sys.argv[1], int(sys.argv[2])
        seen, reads, bad = {{}}, 0, []
        while len(seen) <= hours and not bad:
            reads += 1
            try:
                text = open(path).read()
                head, payload, signature = text.split(".")
                claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
                if seen.setdefault(claims["jti"], text) != text:
                    bad.append("another text of one token")
                if claims["exp"] < time.time():
                    bad.append(f"over for {{time.time() - claims['exp']:.1f}} s")
            except Exception as error:
                bad.append(repr(error))
        with open(into + ".new", "w") as file:
            json.dump({{"reads": reads, "tokens": len(seen), "bad": bad}}, file)
        os.rename(into + ".new", into)
    '''
    argv = [sys.executable, "-c", READ, os.path.expanduser("~/{name}"), "{hours}"]
    print(json.dumps(subprocess.Popen(argv, start_new_session=True).pid))
"""


def test_fresh_whole_and_everywhere_with_nobody_looking(in_pods, sessions, analyst):
    """Hours without a browser, in all of a person's servers, while somebody reads the file all the time."""
    everywhere = {"read-first": analyst, "read-second": sessions(ANALYST, "second")}
    for name, one in everywhere.items():
        one.run(READER.format(name=name, hours=HOURS))
        one.kernel.disconnect()

    homes = in_pods.homes()

    def results():
        return {path.name: path for home in homes for path in home.glob("read-*") if path.name in everywhere}

    wait_until(lambda: len(results()) == 2, lambda: f"only {list(results())}", (HOURS + 2) * HOUR)
    for path in results().values():
        found = json.loads(path.read_text())
        assert found["bad"] == [], path.name
        assert found["tokens"] > HOURS and found["reads"] > 1000
    for one in everywhere.values():
        one.kernel.connect()
    pods = {one.pod["metadata"]["name"] for one in everywhere.values()}
    secrets = [one.secret for one in everywhere.values()]
    tokens = {one["hub-token"] for one in secrets} | {json.loads(one["agent.json"])["hub_token"] for one in secrets}
    assert len(pods) == 2 and len(tokens) == 4, "each server and each agent has its own"


def test_the_sidecar_alone_dies_and_comes_back(analyst):
    analyst.run("import json; kept = 42; print(json.dumps(kept))")
    before = analyst.agent()
    assert agent_process(before).send(signal.SIGKILL)

    def is_back():
        now = analyst.agent()
        return now["restartCount"] == before["restartCount"] + 1 and now.get("started") and now["ready"]

    wait_until(is_back, "the agent runs again", AGENT_SECONDS)

    def is_fresh():
        found = analyst.run(HEALTH)
        return found and found["health"]["token"]["expires_at"] > time.time()

    wait_until(is_fresh, "the agent brings tokens again", AGENT_SECONDS)
    found = analyst.run(HEALTH)
    assert found["kept"] == 42 and found["mode"] == "0o600" and found["health"]["token"]["reason"] == ""


HEALTH = """
    import http.client, json, os, pathlib, socket

    class Agent(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(os.environ["AF_AGENT_SOCKET"])

    try:
        agent = Agent("localhost")
        agent.request("GET", "/health")
        health = json.loads(agent.getresponse().read())
        mode = oct(pathlib.Path(os.environ["BEARER_TOKEN_FILE"]).stat().st_mode & 0o777)
        print(json.dumps({"kept": kept, "health": health, "mode": mode}))
    except OSError:
        print("null")
"""


def agent_process(status) -> Identity:
    """The first process of a container, which root of the node sees."""
    container = status["containerID"].removeprefix("containerd://")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = container in (process / "cgroup").read_text()
            ours = b"af_hub.session.agent" in (process / "cmdline").read_bytes()
        except OSError:
            continue
        if inside and ours and (found := Identity.of(int(process.name))):
            return found
    raise AssertionError(f"no process of container {container}")


def test_what_the_agent_may_the_user_may_not(in_pods, analyst):
    """The user's hub token gives no IAM token; the file in the pod does, and is the person's own."""
    with httpx.Client(base_url=f"{in_pods.url}hub/api", timeout=20) as rest:
        own = {"Authorization": f"token {analyst.secret['hub-token']}"}
        agents = {"Authorization": f"token {json.loads(analyst.secret['agent.json'])['hub_token']}"}
        assert rest.get("/af/token", headers=own).status_code == 403
        assert rest.get("/af/token", headers=agents).status_code == 200
        assert rest.delete(f"/users/{ANALYST}/server", headers=agents).status_code in (403, 404)
        assert rest.get("/users", headers=agents).status_code == 403
        assert rest.delete(f"/users/{ANALYST}/server", headers=own).status_code in (403, 404)
