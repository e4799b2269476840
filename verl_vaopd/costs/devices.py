"""The accelerators a step is planned for: peak figures of their data sheets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Peak figures of one GPU. Both links are given per direction: half of what data sheets call total bandwidth."""

    name: str
    bf16_flops: float
    """FLOP/s of dense bf16 matrix products, without structured sparsity."""
    hbm: float
    """Bytes/s between the GPU and its own memory."""
    nvlink: float
    """Bytes/s to the other GPUs of the node, one direction."""
    pcie: float
    """Bytes/s to the host, one direction."""
    memory: float
    """Bytes of GPU memory."""
    source: str


DEVICES = {
    "a100-80g": Device(
        name="A100-80GB SXM",
        bf16_flops=312e12,
        hbm=2039e9,
        nvlink=300e9,
        pcie=32e9,
        memory=80e9,
        source="NVIDIA A100 Tensor Core GPU data sheet, column A100 80GB SXM (NVLink 600 GB/s, PCIe Gen4 64 GB/s)",
    ),
    "h100-80g": Device(
        name="H100-80GB SXM",
        bf16_flops=989.4e12,
        hbm=3350e9,
        nvlink=450e9,
        pcie=64e9,
        memory=80e9,
        source="NVIDIA H100 Tensor Core GPU data sheet, column H100 SXM (bf16 1,979 TFLOPS with sparsity, halved; "
        "NVLink 900 GB/s, PCIe Gen5 128 GB/s)",
    ),
}
