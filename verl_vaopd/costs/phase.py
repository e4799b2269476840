"""One phase of a step on one GPU, and its seconds by a roofline."""

from dataclasses import dataclass, field

from verl_vaopd.costs.assumptions import Assumptions
from verl_vaopd.costs.devices import Device


@dataclass(frozen=True)
class Phase:
    """What one phase costs on one GPU: FLOPs, bytes by path, seconds of latency, memory in bytes by part."""

    name: str
    flops: float = 0
    hbm: float = 0
    nvlink: float = 0
    host: float = 0
    latency: float = 0
    memory: dict[str, float] = field(default_factory=dict)

    def times(self, device: Device, assumptions: Assumptions) -> dict[str, float]:
        """Predicted seconds of each resource alone."""
        return {
            "compute": self.flops / (device.bf16_flops * assumptions.compute),
            "HBM": self.hbm / (device.hbm * assumptions.hbm),
            "NVLink": self.nvlink / (device.nvlink * assumptions.nvlink),
            "host": self.host / (device.pcie * assumptions.pcie),
            "latency": self.latency,
        }

    def seconds(self, device: Device, assumptions: Assumptions) -> float:
        """Predicted: the roofline max(compute, HBM, NVLink), which overlap, plus host copies and latency."""
        times = self.times(device, assumptions)
        return max(times["compute"], times["HBM"], times["NVLink"]) + times["host"] + times["latency"]

    def bound(self, device: Device, assumptions: Assumptions) -> str:
        """The resource that takes longest."""
        times = self.times(device, assumptions)
        return max(times, key=times.get)

    @property
    def peak_memory(self) -> float:
        return sum(self.memory.values())

    @property
    def largest_part(self) -> str:
        return max(self.memory, key=self.memory.get)
