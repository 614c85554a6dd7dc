#!/usr/bin/env python3
"""Records what OpenSSH's clients say to an agent, and what OpenSSH's own agent answers.

    ./record.py DIRECTORY        (sshd, ssh, ssh-add, ssh-agent, ssh-keygen and git are installed; the user may log in)

A file a connection: message and answer in turn, each with its length in front, as they were on the socket.
"""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

here = pathlib.Path(__file__).resolve().parent
out = pathlib.Path(sys.argv[1]).resolve()
work = pathlib.Path(tempfile.mkdtemp(prefix="record-"))
user = subprocess.check_output(["id", "-un"], text=True).strip()
environment = {"PATH": os.environ["PATH"], "HOME": str(work), "LANG": "C.UTF-8"}


def run(*arguments, **more):
    env = environment | more.pop("env", {})
    return subprocess.run(arguments, cwd=work, env=env, stdin=subprocess.DEVNULL, check=more.pop("check", True), **more)


def frame(connection):
    head = connection.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    return head + connection.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)


class Recorder:
    """A socket before an agent's, which writes down each connection."""

    def __init__(self, name, agent):
        self.name, self.agent, self.count = name, agent, 0
        self.path = str(work / f"{name}.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            self.count += 1
            self.threads.append(threading.Thread(target=self.serve, args=(connection, self.count)))
            self.threads[-1].start()

    def serve(self, connection, number):
        agent = socket.socket(socket.AF_UNIX)
        agent.connect(self.agent)
        said = b""
        while (message := frame(connection)) is not None:
            agent.sendall(message)
            answer = frame(agent)
            if answer is None:
                break
            said += message + answer
            connection.sendall(answer)
        if said:
            (out / f"{self.name}-{number}.bin").write_bytes(said)
        connection.close()

    def done(self):
        time.sleep(0.3)
        for thread in self.threads:
            thread.join(5)


def agent(*options):
    path = str(work / f"agent-{len(agents)}.sock")
    agents.append(subprocess.Popen(["ssh-agent", "-D", "-a", path, *options], env=environment, stdout=subprocess.DEVNULL))
    while not os.path.exists(path):
        time.sleep(0.05)
    return path


agents = []
out.mkdir(parents=True, exist_ok=True)
keys = ["rsa", "p256", "p384"]
for key in keys:
    shutil.copy(here.parent / "cms/keys" / f"{key}.key", work / key)
    (work / key).chmod(0o600)
    (work / f"{key}.pub").write_bytes(run("ssh-keygen", "-y", "-f", key, capture_output=True).stdout)
plain = agent()
for key in keys:
    run("ssh-add", "-q", key, env={"SSH_AUTH_SOCK": plain})
(work / "askpass").write_text("#!/bin/sh\necho a-pass-phrase\n")
(work / "askpass").chmod(0o700)
asking = {"SSH_ASKPASS": str(work / "askpass"), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}


def recorded(name, *lines, check=True, to=None, env=None):
    recorder = Recorder(name, to or plain)
    for line in lines:
        run(*line, env={"SSH_AUTH_SOCK": recorder.path} | asking | (env or {}), check=check, stdout=subprocess.DEVNULL)
    recorder.done()


# ssh-add
recorded("list", ["ssh-add", "-l"], ["ssh-add", "-L"])
recorded("lock", ["ssh-add", "-x"], ["ssh-add", "-l"], ["ssh-add", "-X"], check=False)
recorded("add-card", ["ssh-add", "-s", "/usr/lib/softhsm/libsofthsm2.so"], check=False, to=agent("-P", "/nowhere"))
constrained = ["ssh-add", "-t", "60", "-c", "-s", "/usr/lib/softhsm/libsofthsm2.so"]
recorded("add-card-constrained", constrained, check=False, to=agent("-P", "/nowhere"))
recorded("remove-card", ["ssh-add", "-e", "/usr/lib/softhsm/libsofthsm2.so"], check=False, to=agent())
recorded("add-key", ["ssh-add", "-q", "p256"], to=agent())
recorded("remove-key", ["ssh-add", "-d", "p256"], check=False, to=agent())
recorded("remove-all", ["ssh-add", "-D"], to=agent())
(work / "known").write_text("")

# ssh-keygen and git
(work / "message").write_text("a message\n")
for key in keys:
    recorded(f"sshsig-{key}", ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", f"{key}.pub", "message"])
    os.remove(work / "message.sig")
short = ["ssh-keygen", "-q", "-Y", "sign", "-O", "hashalg=sha256", "-n", "user@example.org", "-f", "p256.pub", "message"]
recorded("sshsig-sha256", short)
run("git", "init", "-q", "repository")
commit = ["git", "-C", "repository", "-c", "user.name=User", "-c", "user.email=user@example.org"]
commit += ["-c", "gpg.format=ssh", "-c", "user.signingKey=" + str(work / "p256.pub")]
recorded("git", [*commit, "commit", "-q", "--allow-empty", "-S", "-m", "signed"])

# ssh
hosts = {"ed25519": ["ed25519"], "rsa": ["rsa", "-b", "2048"], "p256": ["ecdsa", "-b", "256"], "p384": ["ecdsa", "-b", "384"]}
hosts["p521"] = ["ecdsa", "-b", "521"]
for host, kind in hosts.items():
    run("ssh-keygen", "-q", "-N", "", "-f", f"host-{host}", "-t", *kind)
run("ssh-keygen", "-q", "-N", "", "-f", "ca", "-t", "ed25519")
for key in keys:
    run("ssh-keygen", "-q", "-s", "ca", "-I", key, "-n", user, f"{key}.pub")
authorized = [(work / f"{key}.pub").read_text() for key in keys]
authorized.append("cert-authority " + (work / "ca.pub").read_text())
(work / "authorized").write_text("".join(authorized))
for host in hosts:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {work}/host-{host}", "UsePAM no", "StrictModes no"]
    lines += [f"AuthorizedKeysFile {work}/authorized", "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no"]
    (work / "sshd_config").write_text("\n".join(lines) + "\n")
    server = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", str(work / "sshd_config")])
    agents.append(server)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
    options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={work}/known", "-o", "LogLevel=ERROR"]
    ssh = ["ssh", *options, "-o", "IdentitiesOnly=yes", "-p", str(port)]
    target = f"{user}@127.0.0.1"
    for key in keys if host == "ed25519" else ["p256"]:
        recorded(f"log-in-{key}-to-{host}", [*ssh, "-i", f"{work}/{key}.pub", target, "true"])
    if host == "ed25519":
        for key in keys:
            # The certificate alone is authorized for this one.
            certified = [*ssh, "-i", f"{work}/{key}.pub", "-o", f"CertificateFile={work}/{key}-cert.pub"]
            recorded(f"log-in-{key}-certified", [*certified, target, "true"])
        again = " ".join([*ssh, "-i", f"{work}/p256.pub", target, "true"])
        recorded("forwarded", [*ssh, "-A", "-i", f"{work}/rsa.pub", target, again])
        recorded("forwarded-git", [*ssh, "-A", "-i", f"{work}/rsa.pub", target,
            f"ssh-keygen -q -Y sign -n git -f {work}/p256.pub {work}/message"])
    server.terminate()

for process in agents:
    process.terminate()
    process.wait()
shutil.rmtree(work, ignore_errors=True)
