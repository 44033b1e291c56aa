"""A SLURM cluster of one node, this machine, that lives in a directory and dies with it; no other SLURM is touched."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from getpass import getuser
from pathlib import Path
from typing import Any

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PATIENCE = 20.0  # seconds in which the daemons come up
CPUS = 2
CONFIGURATION = """
ClusterName=downstairs
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
ReturnToService=2
KillWait=30
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE
"""


class NoSlurmError(Exception):
    """Why there is no SLURM here."""


class SlurmNode:
    """Two daemons and the environment in which ``sbatch`` finds them; a context manager. Raises NoSlurmError."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        path = f"{environment['PATH']}:{SBIN}"
        missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
        if missing:
            raise NoSlurmError(f"{missing[0]} is not installed (Debian: apt-get install slurm-wlm)")
        self.folder, self.file = folder, folder / "slurm.conf"
        self.environment = {**os.environ, **environment, "PATH": path, "SLURM_CONF": str(self.file)}
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "SlurmNode":
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.file.write_text(CONFIGURATION.format(user=getuser(), ports=_free_ports(2), folder=self.folder, cpus=CPUS))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """All processes that were started with this cluster's SLURM_CONF end: jobs, their steps, the daemons."""
        for kind, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, kind)
            end = time.monotonic() + patience
            while self.processes() and time.monotonic() < end:
                for daemon in self.daemons:
                    daemon.poll()
                time.sleep(0.05)
        for daemon in self.daemons:
            daemon.wait()

    def call(self, *words: str, **options: Any) -> str:
        """What a program of SLURM's, or of ours, prints; an error if it fails."""
        done = self.answer(*words, **options)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def answer(self, *words: str, **options: Any) -> subprocess.CompletedProcess:
        """The same, whether it fails or not."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE + 100, **options
        )

    def wait(self, job: str, seconds: float = 60.0) -> None:
        """Until a job, or all tasks of an array, have left the queue."""
        end = time.monotonic() + seconds
        while self.call("squeue", "--noheader", f"--jobs={job}", "--states=PD,R,CG,S,CF"):
            assert time.monotonic() < end, self.call("scontrol", "show", "job", job)
            time.sleep(0.1)

    def processes(self) -> list[int]:
        """Who lives with this cluster's SLURM_CONF, zombies excepted (they have no environment)."""
        mark, found = f"SLURM_CONF={self.file}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:  # ended meanwhile, or someone else's
                continue
        return found

    def _start(self) -> None:
        for name, *words in (("slurmctld", "-D", "-c"), ("slurmd", "-D", "-N", "localhost")):
            with (self.folder / f"{name}.log").open("w") as log:
                self.daemons.append(
                    subprocess.Popen([name, *words], env=self.environment, stdout=log, stderr=subprocess.STDOUT)
                )
        end = time.monotonic() + PATIENCE
        while not self._idle():
            for name, daemon in zip(PROGRAMS, self.daemons, strict=False):
                if daemon.poll() is not None or time.monotonic() > end:
                    last = (self.folder / f"{name}.log").read_text().strip().splitlines()[-1:]
                    raise NoSlurmError(f"{name} does not come up here: {last[0] if last else 'it says nothing'}")
            time.sleep(0.05)

    def _idle(self) -> bool:
        words = ["scontrol", "--oneliner", "show", "node", "localhost"]
        try:
            asked = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        return "State=IDLE " in asked.stdout


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
