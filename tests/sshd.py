# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is reached by ssh: an sshd on localhost, with its own keys and port."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import package_tree
from pyvmm.lab.apt import no_progress

# As root, sshd wants a user and a directory for its unprivileged part. They exist in a mount
# namespace of its own.
_AS_ROOT = """
cp /etc/passwd "$0/passwd"
grep -q ^sshd: "$0/passwd" || echo "sshd:x:65533:65534::/run/sshd:/bin/false" >>"$0/passwd"
mount --bind "$0/passwd" /etc/passwd
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
exec "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A running sshd.

    Attributes:
        ssh: the ssh command that knows it.
        temporary: the TMPDIR of its commands.
    """

    ssh: str
    temporary: Path


@contextmanager
def machine(directory: Path, name: str) -> Iterator[Machine]:
    """Run an sshd of the current user in `directory`; skip the test if there is none to run."""
    for program in ("ssh", "ssh-keygen", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt install openssh-client util-linux")
    try:
        tree = package_tree.PackageTree(
            package_tree.make("sshd", package_tree.native(), ("openssh-server",), no_progress)
        )
    except LackingError as error:
        pytest.skip(f"cannot get sshd: {error}")
    temporary = directory / "tmp"
    temporary.mkdir(parents=True)
    for key in ("host", "user"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)]
        subprocess.run(argv, check=True)
    for program in ("sshd-session", "sshd-auth"):
        real = next(tree.path.glob(f"usr/lib/openssh/{program}"), None)
        if real is None:
            continue  # before OpenSSH 9.8 and 10.0
        command = [*tree.command("sshd")[:-2], str(real), str(real)]
        wrapper = directory / program
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        wrapper.chmod(0o755)
    port = _free_port()
    python = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    (directory / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nPidFile none\n"
        f"AuthorizedKeysFile {directory}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"SshdSessionPath {directory}/sshd-session\nSshdAuthPath {directory}/sshd-auth\n"
        # Not SetEnv: ~/.bashrc may change PATH.
        f'ForceCommand exec env PATH={python} TMPDIR={temporary} sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (directory / "ssh_config").write_text(
        f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {directory}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {directory}/known\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
    )
    *loader, sshd = tree.command("sshd")
    argv = [*loader[:-1], sshd, sshd, "-D", "-e", "-f", str(directory / "sshd_config")]
    if os.geteuid() == 0:
        argv = ["unshare", "--mount", "sh", "-ec", _AS_ROOT, str(directory), *argv]
    with subprocess.Popen(argv, stderr=(directory / "log").open("w")) as server:
        try:
            _wait_until_it_listens(server, port, directory / "log")
            yield Machine(f"ssh -F {directory}/ssh_config", temporary)
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_it_listens(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    while True:
        assert server.poll() is None, log.read_text()
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
