# SPDX-License-Identifier: GPL-2.0-or-later
"""A small TAP runner.

    @case("meminfo matches", timeout=60)
    def meminfo():
        with VM() as vm:
            assert ...

    if __name__ == "__main__":
        main()
"""
import argparse
import atexit
import contextlib
import fnmatch
import io
import os
import signal
import subprocess
import sys
import time
import traceback

from .vm import VM
from .wait import TIMES

# Set in a program that has processes of its own.
OWN = "RVMRPC_OWN_PROCESSES"
CASES = []
SHARED = {}


class Skip(Exception):
    """Raised by a case that cannot run here; its text is the reason."""


class CaseTimeout(BaseException):
    """A case ran too long. Not an Exception, so that no case swallows it."""


def case(name, timeout=120, **params):
    """Registers a function, or a class with run(), as a test case.

    Further keywords are passed to it, so that one function can be several
    cases: case("a", smp=1)(f); case("b", smp=2)(f).
    """
    def register(thing):
        CASES.append((name, timeout, thing, params))
        return thing
    return register


def comment(text):
    """Prints text as TAP comments."""
    for line in text.rstrip().splitlines():
        print(f"# {line}")


def _on_alarm(_signum, _frame):
    raise CaseTimeout()


def _run_one(thing, params, timeout):
    """None, or why the case failed. Ends what VMs it left."""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, timeout * TIMES)
    try:
        if isinstance(thing, type):
            thing(**params).run()
        else:
            thing(**params)
        return None
    except CaseTimeout:
        return f"ran longer than {timeout * TIMES} s\n{traceback.format_exc()}"
    except Skip:
        raise
    except Exception:  # pylint: disable=broad-except
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def shared(cls=VM, **options):
    """A guest that the cases of a file share; booted when there is none."""
    key = repr((cls, sorted(options.items())))
    vm = SHARED.get(key)
    if vm is None or vm.process.poll() is not None:
        vm = SHARED[key] = cls(**options)
        vm.__enter__()
    return vm


def _end_leftovers(failed, everything=False):
    """After a failure the shared guests go too: the next case needs a sane one."""
    if failed:
        # All of them first: an L1 that ends takes its guests' files along.
        for vm in VM.live:
            vm.report()
    for vm in list(VM.live):
        if failed or everything or vm not in SHARED.values():
            vm.stop()
    if failed or everything:
        SHARED.clear()


def _guest_logs():
    """The last case of every file."""
    assert VM.booted, "no guest ran"
    assert not VM.complaints, "\n".join(VM.complaints)


def _report(number, name, thing, params, timeout):
    """Runs a case and prints its line; true unless it failed."""
    start = time.monotonic()
    skipped = error = None
    details = io.StringIO()
    with contextlib.redirect_stdout(details):
        try:
            error = _run_one(thing, params, timeout)
        except Skip as reason:
            skipped = reason
        _end_leftovers(error is not None)
    state = "not ok" if error else "ok"
    tail = f" # SKIP {skipped}" if skipped is not None else ""
    print(f"{state} {number} - {name}{tail}")
    print(f"# {time.monotonic() - start:.2f} s")
    for text in (error, details.getvalue()):
        if text:
            comment("\n".join(line.removeprefix("# ") for line in text.splitlines()))
    sys.stdout.flush()
    return error is None


def _own_processes():
    """Starts this program anew among processes of its own, if root runs it: others that run at the same time are not
    seen by what looks for VMs, and none of its own outlives it. The shell reaps what is orphaned.
    """
    space = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.environ.get(OWN) or subprocess.run([*space, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        return
    os.environ[OWN] = "1"
    # Temporary folders that were made on import; exec would leave them.
    atexit._run_exitfuncs()  # pylint: disable=protected-access
    os.execvp(space[0], [*space, "sh", "-c", '"$@"; exit $?', "sh", sys.executable, *sys.argv])


def main(argv=None, guests=True):
    """Runs the registered cases, or those whose names match, and exits.

    With guests, a last case looks at what the guests' kernels printed.
    """
    _own_processes()
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true", help="print the cases' names")
    parser.add_argument("patterns", nargs="*", help="run only cases with such names")
    args = parser.parse_args(argv)
    chosen = [c for c in CASES if not args.patterns or
              any(fnmatch.fnmatch(c[0], f"*{p}*") for p in args.patterns)]
    if args.list:
        print("\n".join(c[0] for c in chosen))
        sys.exit(0)
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"1..{len(chosen) + guests}")
    failed = 0
    try:
        for number, (name, timeout, thing, params) in enumerate(chosen, 1):
            failed += not _report(number, name, thing, params, timeout)
        _end_leftovers(False, everything=True)
        if guests:
            failed += not _report(len(chosen) + 1, "the guests' kernels have not complained",
                                  _guest_logs, {}, 10)
    finally:
        _end_leftovers(False, everything=True)
    sys.exit(1 if failed or not chosen else 0)
