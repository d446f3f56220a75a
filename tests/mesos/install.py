#!/usr/bin/env python3
"""Sets up a real Mesos 1.11.0 for the tests: install.py PREFIX.

Mesos is no longer packaged for today's systems, but its Python 2 binding still is in the Python
package index, and that extension module contains the whole of libmesos. So: fetch it, give it the
libraries of its time as stubs (a cluster without TLS and ZooKeeper calls next to nothing of them),
and link our own main program (daemons.cpp) against it.

Needs x86-64 Linux with glibc, python3 with pip, g++ and binutils. Exits with 3 where that is not so.
"""
import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = "mesos.scheduler"
ARCHIVE = "mesos.scheduler-1.11.0.linux-x86_64.tar.gz"
DIGEST = "1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e"
LIBRARY = "libmesos.so"
DAEMONS = ("mesos-master", "mesos-agent", "mesos-containerizer")

# Part of every system that Rust runs on.
SYSTEM = re.compile(r"^(lib(c|m|rt|dl|pthread|stdc\+\+|gcc_s|z)\.so|ld-linux)")
# There today, but without the version names that Mesos asks for.
CHANGED = re.compile(r"^lib(ssl|crypto|curl)\.so")
# Symbols without a version are told apart by their names.
UNVERSIONED = (("svn_txdelta", "libsvn_delta-1.so.1"), ("svn_", "libsvn_subr-1.so.1"),
               ("apr_", "libapr-1.so.0"))
PYTHON = "libpython-stub.so"
# Called while loading; zero means that all is well.
QUIET = re.compile(r"^(apr_(initialize|terminate)|sasl_.*)$")
# Tokens of executors are signed with these two, so they go to the real library.
REAL_CRYPTO = "libcrypto.so.3"
STUB_HEAD = f"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
static void missing(const char *name) {{ fprintf(stderr, "%s is only a stub\\n", name); abort(); }}
static void *real(const char *name) {{
  void *library = dlopen("{REAL_CRYPTO}", RTLD_NOW);
  void *symbol = library ? dlsym(library, name) : 0;
  if (!symbol) missing(name);
  return symbol;
}}
"""
STUB_OF = {
    "EVP_sha256": "const void *EVP_sha256(void)"
                  " { return ((const void *(*)(void))real(\"EVP_sha256\"))(); }",
    "HMAC": "void *HMAC(const void *h, const void *k, int kl, const void *d, unsigned long n,"
            " void *o, unsigned *ol) { return ((void *(*)(const void *, const void *, int,"
            " const void *, unsigned long, void *, unsigned *))real(\"HMAC\"))(h, k, kl, d, n, o, ol); }",
}


def unavailable(why):
    print(f"no real Mesos here: {why}", file=sys.stderr)
    sys.exit(3)


def fetch(target):
    """The archive is no source distribution, so pip finds it but would not install it: its finder
    and its session (index, certificates, proxies) are used as they are configured."""
    from pip._internal.commands import create_command
    command = create_command("download")
    options, _ = command.parse_args([PROJECT])
    with command.main_context(), tempfile.TemporaryFile() as archive:
        session = command.get_default_session(options)
        candidates = command._build_package_finder(options, session).find_all_candidates(PROJECT)
        url = next((c.link.url_without_fragment for c in candidates if c.link.filename == ARCHIVE), None)
        if url is None:
            unavailable(f"the package index does not have {ARCHIVE}")
        # The bytes as they are: some servers call a .gz an encoding.
        reply = session.get(url, stream=True, headers={"Accept-Encoding": "identity"})
        reply.raise_for_status()
        digest = hashlib.sha256()
        for piece in iter(lambda: reply.raw.read(1 << 20, decode_content=False), b""):
            digest.update(piece)
            archive.write(piece)
        if digest.hexdigest() != DIGEST:
            sys.exit(f"{ARCHIVE} is not what it was: SHA-256 {digest.hexdigest()}")
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            member = next(m for m in tar if m.name.endswith("/_scheduler.so"))
            with open(target, "wb") as out:
                shutil.copyfileobj(tar.extractfile(member), out)
    subprocess.run(["strip", "--strip-unneeded", target], check=True)


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.splitlines()


def is_there(soname):
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def undefined(library):
    """What the library wants of libraries that are not here: {soname: {(symbol, version)}}."""
    needed = [m[1] for line in readelf("-d", library) if (m := re.search(r"NEEDED.*\[(.*)\]", line))]
    absent = {n for n in needed if CHANGED.match(n) or not (SYSTEM.match(n) or is_there(n))}
    versions, soname = {}, None
    for line in readelf("-V", library):
        if m := re.search(r"File: (\S+)", line):
            soname = m[1]
        elif m := re.search(r"Name: (\S+) +Flags: \S+ +Version: (\d+)", line):
            versions[m[2]] = soname, m[1]
    wanted = {}
    for line in readelf("--dyn-syms", library):
        columns = line.split()
        if len(columns) < 8 or columns[6] != "UND":
            continue
        name, at, _ = columns[7].partition("@")
        if at:
            number = columns[8].strip("()") if len(columns) > 8 else None
            owner, version = versions.get(number, (None, None))
        elif name.startswith(("Py", "_Py")):
            owner, version = PYTHON, None
        else:
            owner = next((s for prefix, s in UNVERSIONED if name.startswith(prefix)), None)
            version = None
        if owner == PYTHON or owner in absent:
            wanted.setdefault(owner, set()).add((name, version))
    return wanted


def stub(soname, symbols, directory):
    source, exports = STUB_HEAD, {}
    for name, version in sorted(symbols, key=str):
        if name in STUB_OF:
            source += STUB_OF[name]
        elif QUIET.match(name):
            source += f"int {name}(void) {{ return 0; }}"
        elif re.match(r"PyExc_|_Py_.*Struct", name):
            source += f"void *{name}[64];"
        else:
            source += f'void {name}(void) {{ missing("{name}"); }}'
        source += "\n"
        if version:
            exports.setdefault(version, []).append(name)
    with tempfile.TemporaryDirectory() as scratch:
        command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{soname}",
                   "-o", os.path.join(directory, soname), "-x", "c", "-"]
        if exports:
            script = os.path.join(scratch, "exports")
            with open(script, "w") as out:
                for version, names in sorted(exports.items()):
                    out.write(f"{version} {{ global: {'; '.join(names)}; }};\n")
            command.append(f"-Wl,--version-script={script}")
        subprocess.run(command, input=source, text=True, check=True)


def main():
    prefix, = sys.argv[1:]
    if platform.machine() != "x86_64" or not sys.platform.startswith("linux"):
        unavailable("the build is for x86-64 Linux")
    for tool in ("g++", "gcc", "readelf", "strip"):
        if shutil.which(tool) is None:
            unavailable(f"{tool} is not installed")
    made_of = hashlib.sha256()
    for name in ("install.py", "daemons.cpp"):
        with open(os.path.join(HERE, name), "rb") as source:
            made_of.update(source.read())
    stamp = os.path.join(prefix, "made-of")
    if os.path.exists(stamp) and open(stamp).read() == made_of.hexdigest():
        return
    directory = os.path.join(prefix, "lib")
    programs = os.path.join(prefix, "libexec")
    os.makedirs(directory, exist_ok=True)
    os.makedirs(programs, exist_ok=True)
    library = os.path.join(directory, LIBRARY)
    if not os.path.exists(library):
        fetch(library + ".part")
        os.replace(library + ".part", library)
    for soname, symbols in undefined(library).items():
        stub(soname, symbols, directory)
    first = os.path.join(programs, DAEMONS[0])
    # g++ of the day against a library of its time: only the library's own symbols are checked.
    subprocess.run(["g++", "-std=c++17", "-O1", "-o", first, os.path.join(HERE, "daemons.cpp"),
                    f"-L{directory}", f"-l:{LIBRARY}", f"-l:{PYTHON}",
                    f"-Wl,-rpath-link,{directory}", "-Wl,--allow-shlib-undefined",
                    "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib"], check=True)
    for name in DAEMONS[1:]:
        path = os.path.join(programs, name)
        if os.path.lexists(path):
            os.remove(path)
        os.symlink(DAEMONS[0], path)
    with open(stamp, "w") as out:
        out.write(made_of.hexdigest())


if __name__ == "__main__":
    main()
