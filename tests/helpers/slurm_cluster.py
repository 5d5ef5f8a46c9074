"""A real SLURM on one machine, for tests: munge, slurmctld, three slurmds with pretend GPUs, and accounting.

Needs root and Debian's packages slurmctld, slurmd, slurm-client, munge (and slurmdbd, mariadb-server-core,
mariadb-client-core for accounting). Everything it writes is below one folder, every port is on the loopback.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")


_PORTS_OF_A_CLUSTER = 10


def _free_ports() -> tuple[int, socket.socket]:
    """The first of ten ports in a row that nobody listens on: slurmctld's, slurmdbd's and the nodes'.

    The socket reserves them as long as it is open: another process that starts a cluster at the same time, before the
    daemons of this one listen, takes others.
    """
    for first in range(17_800, 30_000, _PORTS_OF_A_CLUSTER):
        reservation = socket.socket(socket.AF_UNIX)
        with contextlib.ExitStack() as sockets:
            try:
                reservation.bind(f"\0slurm of tests {first}")
                for port in range(first, first + _PORTS_OF_A_CLUSTER):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return first, reservation
            except OSError:
                reservation.close()
    raise OSError("no free ports")


def why_not() -> str | None:
    """The reason why no cluster can run here, or None."""
    absent = [program for program in (*PROGRAMS, *ACCOUNTING) if shutil.which(program, path=_PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: `.ci/install-slurm` installs SLURM from Debian's packages"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Cluster:
    """Nodes n1, n2, n3 of four CPUs and two pretend GPUs each.

    Without `requeues` the site refuses to requeue jobs, with `max_submit_jobs` it limits how many a user may have.
    Partitions: main (default), high, which preempts low, and low, whose jobs are requeued. With
    `signals_preemption` SLURM sends a preempted job USR2 at once; without it, as by default, SIGCONT and SIGTERM. With
    `task_plugin="task/affinity"` tasks are bound to CPUs where srun asks for it; this machine must have these CPUs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_nodes: int = 3,
        accounting: bool = True,
        signals_preemption: bool = False,
        max_array_size: int = 1001,
        grace_s: int = 30,
        requeues: bool = True,
        preempt_mode: str = "REQUEUE",
        max_submit_jobs: int | None = None,
        task_plugin: str = "task/none",
    ) -> None:
        assert len(str(folder)) < 70, "unix sockets go below it"
        self.folder, self.num_nodes, self.accounting = folder, num_nodes, accounting
        self.conf = folder / "etc" / "slurm.conf"
        assert 2 + num_nodes <= _PORTS_OF_A_CLUSTER
        self._port, self._reservation = _free_ports()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("etc", "log", "run", "state", "spool", "dev"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._max_submit_jobs = max_submit_jobs
        self._write_config(signals_preemption, max_array_size, grace_s, task_plugin)
        if not (requeues and preempt_mode == "REQUEUE"):
            text = self.conf.read_text().replace("PreemptMode=REQUEUE", f"PreemptMode={preempt_mode}")
            self.conf.write_text(text.replace("JobRequeue=1", f"JobRequeue={int(requeues)}"))
        if max_submit_jobs is not None:
            self.conf.write_text(f"{self.conf.read_text()}AccountingStorageEnforce=associations,limits\n")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every client."""
        return {"SLURM_CONF": str(self.conf)}

    def run(self, *command: str) -> str:
        """A client's output."""
        environment = os.environ | self.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for command in ("scancel --signal=KILL --full --user=root", "scancel --user=root"):
            subprocess.run(command.split(), env=os.environ | self.environment, capture_output=True, timeout=30)
        time.sleep(0.5)  # slurmds end the jobs' steps before they are stopped
        for name in reversed(list(self._processes)):
            self.stop(name)
        self._reservation.close()

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """Stop one daemon."""
        process = self._processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_node(self, number: int) -> None:
        """Start the slurmd of node n<number>."""
        self._spawn(f"slurmd-n{number}", "slurmd", "-D", "-N", f"n{number}", "-f", str(self.conf))

    def _start(self) -> None:
        socket_ = self.folder / "run" / "munge.socket"
        key = self.folder / "etc" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        places = {"key-file": key, "socket": socket_, "pid-file": self.folder / "run" / "munged.pid"}
        places |= {"log-file": self.folder / "log" / "munged.log", "seed-file": self.folder / "run" / "munged.seed"}
        options = [f"--{name}={path}" for name, path in places.items()]
        self._spawn("munged", "munged", "--foreground", "--force", *options)
        self._wait("munged", lambda: _succeeds("munge", "-n", "-S", str(socket_)))
        if self.accounting:
            self._start_accounting()
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self._wait("slurmctld", lambda: self._client("scontrol", "ping"))
        for number in range(1, self.num_nodes + 1):
            (self.folder / "spool" / f"n{number}").mkdir(exist_ok=True)
            self.start_node(number)
        self._wait("slurmctld", lambda: self.num_ready() == self.num_nodes)

    def num_ready(self) -> int:
        """How many nodes accept jobs."""
        found = self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc", "-o", "%N")
        return len(set(found.split()))

    def _start_accounting(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "run" / "mysql.sock"
        install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
        install += ["--auth-root-authentication-method=socket", "--innodb-log-file-size=8M", "--skip-name-resolve"]
        subprocess.run(install, check=True, capture_output=True, env=os.environ | {"PATH": _PATH})
        options = [f"--datadir={data}", f"--socket={sock}", f"--pid-file={self.folder / 'run' / 'mariadbd.pid'}"]
        options += ["--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M"]
        options += ["--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900", "--performance-schema=OFF"]
        self._spawn("mariadbd", "mariadbd", "--no-defaults", "--user=root", *options)
        self._wait("mariadbd", lambda: _succeeds("mariadb", "--no-defaults", "-S", str(sock), "-e", "select 1"))
        self._spawn("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(sock))
        self._wait("slurmdbd", lambda: self._client("sacctmgr", "-n", "list", "cluster"))
        self.run("sacctmgr", "-i", "add", "cluster", "tests")
        if self._max_submit_jobs is not None:
            self.run("sacctmgr", "-i", "add", "account", "lab", f"MaxSubmitJobs={self._max_submit_jobs}")
            self.run("sacctmgr", "-i", "add", "user", "root", "account=lab", "DefaultAccount=lab")

    def _client(self, *command: str) -> bool:
        return _succeeds(*command, **self.environment)

    def _spawn(self, name: str, program: str, *arguments: str, **environment: str) -> None:
        path = shutil.which(program, path=_PATH)
        assert path is not None
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [path, *arguments],
                env=os.environ | self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait(self, name: str, is_up: Callable[[], bool], timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while not is_up():
            log = self.folder / "log" / f"{name}.out"
            assert self._processes[name].poll() is None, f"{name} ended: {log.read_text()[-500:]}"
            assert time.monotonic() < end, f"{name} does not come up: {log.read_text()[-500:]}"
            time.sleep(0.1)

    def _write_config(self, signals_preemption: bool, max_array_size: int, grace_s: int, task_plugin: str) -> None:
        f, host = self.folder, socket.gethostname().split(".")[0]
        for gpu in range(2):  # a GPU needs a device file; a copy of /dev/null suffices
            if not (f / "dev" / f"gpu{gpu}").exists():
                os.mknod(f / "dev" / f"gpu{gpu}", 0o666 | 0o020000, os.makedev(1, 3))
        nodes = f"n[1-{self.num_nodes}]"
        gpus = f"NodeName={nodes} Name=gpu File={f}/dev/gpu[0-1] Flags=nvidia_gpu_env"
        (f / "etc" / "gres.conf").write_text(f"AutoDetect=off\n{gpus}\n")
        (f / "etc" / "cgroup.conf").write_text("CgroupAutomount=no\n")
        auth = f"AuthType=auth/munge\nAuthInfo=socket={f}/run/munge.socket"
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            accounting += f"AccountingStoragePort={self._port + 1}\nAccountingStoragePass={f}/run/munge.socket"
            database = f / "etc" / "slurmdbd.conf"
            database.write_text(
                f"{auth}\nDbdHost={host}\nDbdAddr=127.0.0.1\nDbdPort={self._port + 1}\nSlurmUser=root\n"
                f"LogFile={f}/log/slurmdbd.log\nPidFile={f}/run/slurmdbd.pid\n"
                "StorageType=accounting_storage/mysql\nStorageHost=localhost\nStorageUser=root\nStorageLoc=acct\n"
            )
            database.chmod(0o600)
        preemption = "SlurmctldParameters=preempt_send_user_signal" if signals_preemption else ""
        self.conf.write_text(f"""
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={self._port}
SlurmUser=root
SlurmdUser=root
{auth},cred_expire=5
CredType=cred/munge
StateSaveLocation={f}/state
SlurmdSpoolDir={f}/spool/%n
SlurmctldPidFile={f}/run/slurmctld.pid
SlurmdPidFile={f}/run/slurmd-%n.pid
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin={task_plugin}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=NoOverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
TreeWidth=65533
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
{preemption}
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize={max_array_size}
KillWait=5
InactiveLimit=0
SlurmdTimeout=20
MessageTimeout=20
{accounting}
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={self._port + 2}-{self._port + 1 + self.num_nodes} \\
  CPUs=4 Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=32000 Gres=gpu:2 State=UNKNOWN
PartitionName=DEFAULT Nodes=ALL DefMemPerCPU=2000 MaxTime=INFINITE DefaultTime=60 State=UP OverSubscribe=NO
PartitionName=main Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=high PriorityTier=10 PreemptMode=OFF
""")


def _succeeds(*command: str, **environment: str) -> bool:
    done = subprocess.run(command, env=os.environ | {"PATH": _PATH} | environment, capture_output=True, timeout=30)
    return done.returncode == 0
