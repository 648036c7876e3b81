"""``--on nice:10``: this machine, with workers that let every other process go first."""

from __future__ import annotations

from typing import ClassVar

from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Start
from edgekit.errors import UsageError


class NiceTransport(LocalTransport):
    """How a worker is started; the protocol is the same for every device."""

    spelling: ClassVar[str] = "nice:N"
    description: ClassVar[str] = "this machine at a lower priority, N from 1 to 19"

    @classmethod
    def check_address(cls, address: str) -> None:
        if not address.isdecimal() or not 1 <= int(address) <= 19:
            raise UsageError(f"device 'nice:{address}': give a priority from 1 to 19, such as nice:10")

    def command(self, start: Start) -> list[str]:
        return ["nice", "-n", self.spec.address, *super().command(start)]
