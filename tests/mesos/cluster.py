#!/usr/bin/env python3
"""A real Mesos on loopback to try things on.

  cluster.py start PREFIX DIRECTORY [AGENTS]    a master at 127.0.0.1:5050, agents from 5051 on
  cluster.py stop DIRECTORY                     ends them, and all that runs on them

PREFIX is where install.py put Mesos; DIRECTORY is made anew. `start` returns when all agents have registered.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

MASTER = 5050


def launch(prefix, directory, name, port, flags):
    environment = {"PATH": os.environ["PATH"], "LIBPROCESS_IP": "127.0.0.1", "LIBPROCESS_PORT": str(port)}
    with open(os.path.join(directory, f"{name}-{port}.log"), "wb") as log:
        daemon = subprocess.Popen(
            [os.path.join(prefix, "libexec", name)] + [f"--{key}={value}" for key, value in flags.items()],
            env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)
    with open(os.path.join(directory, "pids"), "a") as pids:
        pids.write(f"{daemon.pid} {name}\n")


def wait(port, metric, value):
    """Until a metric has a value. A request that comes while routes are being set up is never answered."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics/snapshot", timeout=1) as answer:
                if json.load(answer).get(metric) == value:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"nothing useful at 127.0.0.1:{port}; see the logs")


def start(prefix, directory, agents):
    # A master and agents of an earlier time would want their old ports, and each other.
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    launch(prefix, directory, "mesos-master", MASTER, {
        "work_dir": os.path.join(directory, "master"), "registry": "in_memory", "hostname": "localhost",
        "allocation_interval": "100ms", "agent_ping_timeout": "1secs"})
    wait(MASTER, "master/elected", 1)
    for index in range(agents):
        own = os.path.join(directory, f"agent{index}")
        first = 31000 + 500 * index
        launch(prefix, directory, "mesos-agent", MASTER + 1 + index, {
            "master": f"127.0.0.1:{MASTER}", "port": MASTER + 1 + index, "work_dir": own,
            "runtime_dir": f"{own}-run", "fetcher_cache_dir": f"{own}-fetch",
            "appc_store_dir": f"{own}-appc", "docker_store_dir": f"{own}-docker",
            "launcher_dir": os.path.join(prefix, "libexec"), "hostname": f"agent{index}",
            "resources": f"cpus:4;mem:4096;disk:10240;ports:[{first}-{first + 400}]",
            "launcher": "posix", "isolation": "posix/cpu,posix/mem", "systemd_enable_support": "false",
            "registration_backoff_factor": "10ms",
            "switch_user": "true" if os.geteuid() == 0 else "false"})
    wait(MASTER, "master/slaves_active", agents)
    print(f"Mesos runs: master 127.0.0.1:{MASTER}, {agents} agents")


def is_ours(pid, name):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return os.fsencode(name) in words.read().split(b"\0")[0]
    except OSError:
        return False


def stop(directory):
    with open(os.path.join(directory, "pids")) as pids:
        daemons = [line.split() for line in pids]
    for pid, name in reversed(daemons):
        if is_ours(pid, name):
            # With SIGUSR1 an agent ends what runs on it before it leaves.
            os.kill(int(pid), signal.SIGUSR1 if name == "mesos-agent" else signal.SIGTERM)
        while is_ours(pid, name):
            time.sleep(0.02)


def main():
    verb, *words = sys.argv[1:] or [""]
    if verb == "start" and len(words) in (2, 3):
        prefix, directory = (os.path.abspath(path) for path in words[:2])
        try:
            start(prefix, directory, int(words[2]) if len(words) == 3 else 1)
        except BaseException:
            stop(directory)
            raise
    elif verb == "stop" and len(words) == 1:
        stop(words[0])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
