"""Runs daemons: each in its host and in a cgroup of its own, its output in a log, started again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from lab.conditions import until
from lab.hosts import cgroups
from lab.hosts.cgroups import Hierarchy
from lab.hosts.namespaces import entry
from lab.layout import PROJECT, Layout
from lab.supervisor.daemon import Backoff, Daemon, Report, State, describe_end
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

LOG_BYTES = 20 << 20
"""A log that has grown to this is copied to `.1` and begun anew."""

_KILL_WAIT_SECONDS = 5.0

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(PROJECT),
    "PYTHONUNBUFFERED": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All that daemons get from here: nothing of the environment of who typed `navarch up`, proxies and tokens included."""


class Running:
    """One daemon under supervision."""

    def __init__(self, daemon: Daemon, layout: Layout, trees: Sequence[Hierarchy]) -> None:
        self.daemon = daemon
        self._layout, self._trees = layout, trees
        self._cgroup = f"{layout.cgroup}/{daemon.host}/{daemon.cgroup}"
        self._process: asyncio.subprocess.Process | None = None
        self._state, self._started, self._restarts, self._ended = State.WAITING, 0.0, 0, ""
        self._stopping = asyncio.Event()
        self._log = layout.log(daemon.host, daemon.name)

    @property
    def report(self) -> Report:
        """How it is."""
        pid = self._process.pid if self._process is not None and self._state is State.RUNNING else 0
        name, host = self.daemon.name, self.daemon.host
        return Report(host, name, self._state, pid, self._started, self._restarts, self._ended)

    async def run(self) -> None:
        """Keep the daemon running until `stop`; then end it and what it left."""
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                if self.daemon.every_seconds and await self._stopped_within(self.daemon.every_seconds, State.SCHEDULED):
                    break
                started = time.monotonic()
                try:
                    await self._start()
                    returncode = await self._wait()
                except OSError as exc:
                    self._ended = f"cannot be started: {exc.strerror or exc}"
                else:
                    self._ended = describe_end(returncode)
                if self._stopping.is_set():
                    break
                if self.daemon.every_seconds:
                    log.info("job ended", job=self.daemon.key, how=self._ended)
                    continue
                delay = backoff.after_run_of(time.monotonic() - started)
                log.warning("daemon ended", daemon=self.daemon.key, how=self._ended, restart_seconds=delay)
                self._restarts += 1
                await self._stopped_within(delay, State.WAITING)
        finally:
            await self._end()

    async def _stopped_within(self, seconds: float, state: State) -> bool:
        """Wait that long, in this state; True as soon as the daemon is to be stopped."""
        self._state = state
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def stop(self) -> None:
        """Ask `run` to end the daemon."""
        self._stopping.set()

    async def _start(self) -> None:
        daemon = self.daemon
        cgroups.create(self._trees, self._cgroup)
        argv = entry(self._layout, self._trees, daemon.host, daemon.cgroup, daemon.argv)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=ENVIRONMENT | dict(daemon.environment),
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._state, self._started = State.RUNNING, time.time()
        pid_file = self._layout.pid_file(daemon.host, daemon.name)
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{self._process.pid}\n")
        log.info("daemon started", daemon=daemon.key, pid=self._process.pid)

    async def _wait(self) -> int:
        """Until the process ends by itself or is to be stopped; its exit status."""
        assert self._process is not None
        process = self._process
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            process.terminate()
            try:
                async with asyncio.timeout(self.daemon.stop_seconds):
                    return await asyncio.shield(ended)
            except TimeoutError:
                log.warning("daemon does not stop; killing it", daemon=self.daemon.key)
                process.kill()
                return await ended
        finally:
            for task in (ended, stopping):
                task.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async def _end(self) -> None:
        self._state = State.STOPPED
        self._layout.pid_file(self.daemon.host, self.daemon.name).unlink(missing_ok=True)
        if not self.daemon.keeps_children:
            with contextlib.suppress(TimeoutError):
                await until(self._emptied, _KILL_WAIT_SECONDS)
        log.info("daemon stopped", daemon=self.daemon.key)

    def _emptied(self) -> bool:
        return cgroups.signal_all(self._trees, self._cgroup, signal.SIGKILL) == 0

    def rotate_log(self) -> None:
        """Keep the log within bounds; the daemon goes on writing to the same file (it appends)."""
        try:
            if self._log.stat().st_size < LOG_BYTES:
                return
            older = self._log.with_name(self._log.name + ".1")
            older.write_bytes(self._log.read_bytes())
            os.truncate(self._log, 0)
        except OSError as exc:
            log.warning("log not rotated", file=str(self._log), reason=exc.strerror)


class UnknownDaemon(NavarchError):
    """No daemon of this name was ever started."""


class Runner:
    """All daemons of a lab. `run` must be running; the other methods may be called from any task."""

    def __init__(self, layout: Layout, trees: Sequence[Hierarchy]) -> None:
        self._layout, self._trees = layout, trees
        self._running: dict[str, Running] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self, until: asyncio.Event) -> None:
        """Supervise until the event is set; then stop everything in order."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            rotation = group.create_task(self._rotate())
            try:
                await until.wait()
            finally:
                await self.stop(list(self._running))
                rotation.cancel()

    def reports(self) -> list[Report]:
        """How every daemon is, in the order of first start."""
        return [running.report for running in self._running.values()]

    async def start(self, daemons: Sequence[Daemon]) -> None:
        """Start daemons; those that run already, and in just this way, are left as they are."""
        assert self._group is not None
        for daemon in daemons:
            task = self._tasks.get(daemon.key)
            if task is not None and not task.done():
                if self._running[daemon.key].daemon == daemon:
                    continue
                await self.stop([daemon.key])
            running = self._running[daemon.key] = Running(daemon, self._layout, self._trees)
            self._tasks[daemon.key] = self._group.create_task(running.run(), name=daemon.key)

    async def start_again(self, keys: Sequence[str]) -> None:
        """Start daemons that had been stopped. Raises UnknownDaemon."""
        await self.start([self._known(key).daemon for key in keys])

    async def stop(self, keys: Sequence[str]) -> None:
        """Stop daemons, stage after stage, and wait until they have ended. Raises UnknownDaemon."""
        chosen = [self._known(key) for key in keys]
        for stage in sorted({running.daemon.stage for running in chosen}, reverse=True):
            these = [running for running in chosen if running.daemon.stage == stage]
            for running in these:
                await running.stop()
            await asyncio.gather(*(self._tasks[running.daemon.key] for running in these))

    def _known(self, key: str) -> Running:
        if key not in self._running:
            raise UnknownDaemon(f"no daemon {key}")
        return self._running[key]

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(30)
            for running in list(self._running.values()):
                await asyncio.to_thread(running.rotate_log)


def tail(path: Path, lines: int = 10, most_bytes: int = 16 << 10) -> list[str]:
    """The last lines of a log; none when there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - most_bytes))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
