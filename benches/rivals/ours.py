"""dewar beside other supervisors, for a harness that has `class Sup` with prep, argv, start, stop and per_service
(one file, named in OURS_ADAPTER, is run in the harness' own names). DEWAR is the binary to measure.

`ours` is one task of N processes, started with --detach: what stays is root, keeper and runner. When the harness kills
"the manager", that is the root; ours_client, ours_keeper and ours_runner have another victim.
"""
import json as _json, os as _os, signal as _signal, subprocess as _subprocess

_DEWAR = _os.environ.get("DEWAR", "dewar")


class _Pid:
    """As much of a Popen as the harness wants, of a process that is not its child."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if _os.path.exists(f"/proc/{self.pid}") else 0

    def wait(self, timeout=None):
        return 0

    def send_signal(self, number):
        _os.kill(self.pid, number)


class ours(Sup):
    role = "root_pid"

    def prep(s):
        daemon = s.mode != "exit"
        process = dict(argv=[MARK, s.arg], daemon=daemon, min_duration="0s", max_failures=0, max_runs=0,
                       logger={"destination": "none"})
        processes = [dict(process, name=f"s{i}") for i in range(s.n)]
        s.w("task.json", _json.dumps(dict(name="bench", finalization_wait="10s", processes=processes)))

    def dewar(s, *arguments):
        return [_DEWAR, "--root", s.d + "/root", *arguments]

    def argv(s):
        return s.dewar("run", s.d + "/task.json", "--id", "bench", "--format", "plain", "--detach")

    def start(s):
        Sup.start(s)
        s.p.wait()
        s.p = _Pid(s.pid_of("root_pid"))

    def pid_of(s, role):
        text = _subprocess.run(s.dewar("status", "bench", "--format", "json"), capture_output=True).stdout
        tasks = _json.loads(text or b'{"tasks": []}')["tasks"]
        return (tasks[0][role] if tasks else None) or 2**22

    def stop(s):
        _subprocess.Popen(s.dewar("kill", "bench"), stdout=_subprocess.DEVNULL, stderr=_subprocess.DEVNULL)


class ours_client(ours):
    """`dewar run` in the foreground is what is killed."""

    def argv(s):
        return s.dewar("run", s.d + "/task.json", "--id", "bench", "--format", "plain")

    def start(s):
        Sup.start(s)

    def stop(s):
        s.p.send_signal(_signal.SIGTERM)


class ours_keeper(ours):
    def per_service(s):
        return [s.pid_of("keeper_pid")]


class ours_runner(ours):
    def per_service(s):
        return [s.pid_of("runner_pid")]
