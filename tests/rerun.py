#!/usr/bin/env python3
"""Prints the command that runs the failed tests of a `cargo test` again.

Usage: rerun.py OUTPUT, a file with all that cargo and the tests wrote. `./test` calls it.
"""

import os
import re
import shlex
import sys


def target_of(running):
    """The arguments that select the target of a "Running ..." line."""
    if running.startswith("unittests src/lib.rs"):
        return "--lib"
    if running.startswith("unittests src/main.rs"):
        return "--bins"
    name = re.match(r"tests/([^/. ]+)", running)
    return f"--test {name.group(1)}" if name else None


def failures(lines):
    """The failed tests by target; a target that died has none."""
    failed, target, listed = {}, None, []
    for line in lines:
        running = re.match(r"\s+Running (.*) \(.*\)$", line)
        if running:
            target, listed = target_of(running.group(1)), []
        elif line.startswith("   Doc-tests "):
            target, listed = "--doc", []
        elif line == "failures:":
            # There are two such lists: the one with the outputs, and the last one with the names.
            listed = []
        elif line.startswith("    ") and not line.startswith("     "):
            listed.append(line.strip())
        elif line.startswith("test result: FAILED") and target:
            failed.setdefault(target, []).extend(listed)
        else:
            died = re.match(r"error: test failed, to rerun pass `(.*)`$", line)
            if died:
                failed.setdefault(died.group(1), [])
    return failed


def command(target, names):
    words = ["cargo", "test", "--locked", *target.split()]
    if names:
        words += ["--", "--exact", *names]
    return shlex.join(words)


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        failed = failures(file.read().splitlines())
    if not failed:
        return
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("DEWAR_"))
    before = "".join(f"{name}={shlex.quote(value)} " for name, value in settings)
    print("\nThe failed tests again:")
    print("; ".join(before + command(target, names) for target, names in failed.items()))


if __name__ == "__main__":
    main()
