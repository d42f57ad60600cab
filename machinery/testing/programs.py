"""Programs of ours as processes of their own, for tests that kill, freeze and weigh them.  Linux only."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Program:
    """`python -m MODULE ARGUMENTS`, which can be started again and again."""

    module: str
    arguments: list[str]
    log: Path
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        """Of the process that runs. Raises RuntimeError with the end of its log if none does."""
        if self.process is None or self.process.returncode is not None:
            said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise RuntimeError(f"{self.module} does not run: {said}")
        return self.process.pid

    async def start(self) -> None:
        """Run it."""
        with self.log.open("ab") as out:
            command = [sys.executable, "-P", "-m", self.module, *self.arguments]
            self.process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)

    def send(self, number: signal.Signals) -> None:
        """A signal: SIGSTOP freezes, SIGCONT thaws."""
        os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait until the process has ended; nothing if there is none."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            if number == signal.SIGTERM:
                try:
                    await asyncio.wait_for(self.process.wait(), 15)
                except TimeoutError:
                    self.process.kill()
            await self.process.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mib(self) -> float:
        """Proportional set size."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("smaps_rollup has no Pss")
