#!/usr/bin/env python3
"""A small virtual machine whose kernel has cgroup v2 only: for tests on a machine that has v1.

    vm.py install DIR                    fetches qemu and a kernel into DIR, installing nothing (root, network)
    vm.py run DIR FILE... -- COMMAND     boots, runs COMMAND, prints what it prints, exits with its code

The files are there under their own paths, with the libraries that they need; of Debian's tools there are busybox
and bash; and systemd, which is not started, with a bus. Everything lives in memory and is gone with the machine.
"""
import glob
import gzip
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile

PACKAGES = ["qemu-system-x86", "busybox-static", "linux-image-cloud-amd64", "bash", "systemd", "dbus-daemon"]
# Of those packages, by their places in the machine. Where they were fetched to, /lib and /bin may be directories of their own.
PROGRAMS = ["/bin/bash", "/bin/busctl", "/bin/systemctl", "/bin/dbus-daemon", "/lib/systemd/systemd"]
# Of newer versions of systemd only.
MORE_PROGRAMS = ["/lib/systemd/systemd-executor"]
PATIENCE = 1200

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin HOME=/ TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts;
# Not a file system of its own: the files may be below it.
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
sh /command; echo "VM-CODE $?"
echo o > /proc/sysrq-trigger; sleep 5
"""

# The root of an initramfs cannot be left behind by pivot_root: everything moves to another one.
FIRST_INIT = """#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs root /new -o size=90%
for name in *; do [ $name = new ] || /bin/busybox cp -a $name /new/; done
exec /bin/busybox switch_root /new /second-init
"""


def install(directory):
    ready = os.path.join(directory, "ready")
    if os.path.exists(ready):
        with open(ready) as file:
            if file.read().split() == PACKAGES:
                return
        # Made by an earlier version of this file.
        os.remove(ready)
        shutil.rmtree(os.path.join(directory, "root"))
    archives = os.path.join(directory, "archives")
    os.makedirs(os.path.join(archives, "partial"), exist_ok=True)
    root = os.path.join(directory, "root")
    options = ["-qq", "-y", "-d", "--no-install-recommends", "-o", f"Dir::Cache::archives={archives}"]
    subprocess.run(["apt-get", "-qq", "update"], check=True)
    # What is installed already would not be fetched.
    subprocess.run(["apt-get", *options, "--reinstall", "install", *PACKAGES], check=True)
    packages = glob.glob(f"{archives}/*.deb")
    if not packages:
        raise SystemExit("no packages were fetched")
    for package in packages:
        subprocess.run(["dpkg", "-x", package, root], check=True)
    shutil.rmtree(archives)
    with open(ready, "w") as file:
        file.write(" ".join(PACKAGES))


def libraries(path, root=""):
    """What the dynamic linker would load for a program, itself included; what was fetched into `root` first."""
    places = ":".join(f"{root}{top}/lib/x86_64-linux-gnu{below}" for top in ["", "/usr"] for below in ["", "/systemd"])
    environment = {**os.environ, "LD_LIBRARY_PATH": places} if root else None
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, env=environment).stdout
    words = [word for word in listed.split() if word.startswith("/")]
    return [word for word in words if os.path.exists(word)]


def fetched(root, path):
    """Where a program was fetched to; `None` when its package does not have it."""
    places = [f"{root}{path}", f"{root}/usr{path}"]
    return next((place for place in places if os.path.exists(place)), None)


class Archive:
    """An initramfs: cpio in its "newc" format."""

    def __init__(self):
        self.chunks = []
        self.known = set()
        self.count = 0

    def entry(self, path, mode, data=b""):
        path = path.lstrip("/")
        if path in self.known:
            return
        self.known.add(path)
        parent = os.path.dirname(path)
        if parent:
            self.entry(parent, stat.S_IFDIR | 0o755)
        self.count += 1
        name = path.encode() + b"\0"
        fields = [self.count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        self.pad(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
        self.pad(data)

    def pad(self, data):
        self.chunks.append(data + b"\0" * (-len(data) % 4))

    def file(self, path, data, mode=0o755):
        self.entry(path, stat.S_IFREG | mode, data)

    def program(self, path, source=None, root=""):
        source = source or path
        for library in libraries(source, root):
            with open(library, "rb") as file:
                self.file(library.removeprefix(root), file.read())
        with tempfile.NamedTemporaryFile() as small:
            # Without what only a debugger wants.
            subprocess.run(["strip", "-o", small.name, source], check=True)
            with open(small.name, "rb") as file:
                self.file(path, file.read())

    def bytes(self):
        self.known.discard("TRAILER!!!")
        self.entry("TRAILER!!!", 0)
        return b"".join(self.chunks)


def run(directory, files, command):
    root = os.path.join(directory, "root")
    archive = Archive()
    for name in ["proc", "sys", "dev", "tmp", "etc", "home", "root", "run", "var"]:
        archive.entry(name, stat.S_IFDIR | 0o755)
    with open(glob.glob(f"{root}/bin/busybox")[0], "rb") as file:
        archive.file("bin/busybox", file.read())
    for path in PROGRAMS + MORE_PROGRAMS:
        source = fetched(root, path)
        if source:
            archive.program(path, source, root)
        elif path in PROGRAMS:
            raise SystemExit(f"no package has {path}")
    archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    for path in files:
        archive.program(path)
    archive.file("init", FIRST_INIT.encode())
    archive.file("second-init", INIT.encode())
    archive.file("command", (" ".join(map(shlex.quote, command)) + "\n").encode())
    kernel = sorted(glob.glob(f"{root}/boot/vmlinuz-*"))[-1]
    with tempfile.NamedTemporaryFile(suffix=".gz") as image:
        image.write(gzip.compress(archive.bytes(), 1))
        image.flush()
        libs = [f"{root}/usr/lib/x86_64-linux-gnu", f"{root}/lib/x86_64-linux-gnu",
                f"{root}/usr/lib/x86_64-linux-gnu/pulseaudio"]
        line = ("console=ttyS0 quiet loglevel=3 panic=-1 cgroup_no_v1=all mitigations=off "
                "random.trust_cpu=1 tsc=reliable")
        machine = subprocess.Popen(
            [f"{root}/usr/bin/qemu-system-x86_64", "-L", f"{root}/usr/share/qemu",
             "-L", f"{root}/usr/share/seabios", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536",
             "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio",
             "-kernel", kernel, "-initrd", image.name, "-append", line],
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(libs)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            out, _ = machine.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            machine.kill()
            out, _ = machine.communicate()
            print(f"the machine did not end within {PATIENCE} s", file=sys.stderr)
    text = out.decode(errors="replace").replace("\r", "")
    print(text)
    # The kernel may write into the same line.
    codes = re.findall(r"^VM-CODE (\d+)", text, re.MULTILINE)
    return int(codes[-1]) if codes else 125


def main():
    verb, directory, *rest = sys.argv[1:]
    directory = os.path.abspath(directory)
    if verb == "install":
        install(directory)
        return 0
    at = rest.index("--")
    return run(directory, rest[:at], rest[at + 1:])


sys.exit(main())
