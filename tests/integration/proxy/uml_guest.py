"""A user-mode Linux guest: a kernel with IPVS as an ordinary process, on this machine's own files, as root.

Debian's guest kernel 6.1 asks the host for its processes' extended registers in a buffer of a fixed size, which is too
small on processors with AMX (fixed upstream in 6.11); so that request is refused by a seccomp filter, and it takes the
older one.  Vector registers wider than 128 bits are then not kept when the guest switches between processes, which is
why its programs are told not to use them.

Source: Documentation/virt/uml/user_mode_linux_howto_v2; bpf(4), seccomp(2), ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
MEMORY = "512M"
NARROW = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD,-AVX2,-AVX,-XSAVE,-XSAVEC,"
    "-AVX_Fast_Unaligned_Load",
    "OPENSSL_ia32cap": "0:0",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F",
}

_PTRACE, _GET_REGISTER_SET, _EXTENDED_STATE, _EINVAL = 101, 0x4204, 0x202, 22
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_FIRST_ARGUMENT, _THIRD_ARGUMENT = 16, 32  # offsets in struct seccomp_data
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


def run_in_guest(
    command: Sequence[str], modules: Sequence[str], folder: Path, timeout_seconds: float
) -> tuple[int, str]:
    """Boot, load modules, run a command and halt: (exit status, everything the console said)."""
    release = next(MODULES.iterdir())
    files = "\n".join(str(release / path) for path in load_order(release, modules, folder))
    (folder / "modules").write_text(files + "\n")
    script, status = folder / "init", folder / "status"
    environment = {
        **NARROW,
        "PATH": "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/run",
    }
    script.write_text(
        "\n".join(
            [
                "#!/bin/sh",
                *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
                "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run",
                # The kernel does not take modules from the host's file system.
                f'while read file; do cp "$file" /run/module && insmod /run/module || exit 1; done <{folder}/modules',
                "mkdir /run/bin",
                "for name in iptables ip6tables; do for verb in '' -save -restore; do",
                "    ln -s /usr/sbin/xtables-legacy-multi /run/bin/$name$verb",  # the guest's nftables has no NAT
                "done; done",
                "ip link set lo up",
                f"cd {shlex.quote(os.getcwd())} && {shlex.join(command)}",
                f"echo $? >{status}",
                "halt -f -p",
                "",
            ]
        )
    )
    script.chmod(0o755)
    arguments = [
        *(KERNEL, f"mem={MEMORY}", "rootfstype=hostfs", "rootflags=/", "rw", f"init={script}", "quiet"),
        *("con=null", "con0=null,fd:1", f"uml_dir={folder}", *(f"{name}={value}" for name, value in NARROW.items())),
    ]
    launcher = [sys.executable, "-P", __file__, *arguments]
    environ = {**os.environ, "TMPDIR": "/dev/shm"}
    done = subprocess.run(
        launcher,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_seconds,
        env=environ,
        process_group=0,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    return int(status.read_text()) if status.exists() else -1, said


def load_order(release: Path, modules: Sequence[str], folder: Path) -> list[Path]:
    """The files of modules and of all that they need, in the order in which to load them, below `release`."""
    base = folder / "tree" / "lib" / "modules" / release.name
    base.mkdir(parents=True)
    (base / "kernel").symlink_to(release / "kernel")
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        (base / name).write_bytes((release / name).read_bytes())
    subprocess.run(["depmod", "-b", folder / "tree", release.name], check=True, timeout=60)
    needs = dict(_dependencies(base / "modules.dep"))
    by_name = {path.stem.replace("-", "_"): path for path in needs}
    found: dict[Path, None] = {}
    for module in modules:
        path = by_name[module]
        for file in [*reversed(needs[path]), path]:
            found.setdefault(file)
    return list(found)


def _dependencies(file: Path) -> Iterator[tuple[Path, list[Path]]]:
    for line in file.read_text().splitlines():
        path, _, needed = line.partition(":")
        yield Path(path), [Path(each) for each in needed.split()]


def _refuse_extended_registers() -> None:
    """Let ptrace(PTRACE_GETREGSET, …, NT_X86_XSTATE, …) fail in this process and its children."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 5, _PTRACE),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_JUMP_IF_EQUAL, 0, 3, _GET_REGISTER_SET),
            (_LOAD, 0, 0, _THIRD_ARGUMENT),
            (_JUMP_IF_EQUAL, 0, 1, _EXTENDED_STATE),
            (_RETURN, 0, 0, _FAIL | _EINVAL),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    text = ctypes.create_string_buffer(program)
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, described):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    _refuse_extended_registers()
    os.execvp(sys.argv[1], sys.argv[1:])
