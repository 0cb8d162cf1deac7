"""The GPUs of a machine are found without torch, and said."""

from types import SimpleNamespace

import pynvml
import pytest

from nanochat_core.system import hardware


@pytest.fixture
def driver(monkeypatch):
    """Stands for NVIDIA's driver: `.gpus` are (name, bytes of memory or None where it shares the CPU's)."""
    known = SimpleNamespace(gpus=[], fault=None)

    def start():
        if known.fault:
            raise known.fault

    def memory(handle, version):
        if handle[1] is None:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(total=handle[1], used=4 << 20)

    def capability(handle):
        if "GB10" in handle[0]:
            raise pynvml.NVMLError_NotSupported
        return (9, 0) if "H100" in handle[0] else (7, 5)

    monkeypatch.setattr(pynvml, "nvmlInit", start)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(known.gpus))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: known.gpus[index])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: handle[0])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", capability)
    return known


def test_gpus_are_found_without_torch(driver):
    driver.gpus = [("NVIDIA H100 80GB HBM3", 81559 << 20), ("NVIDIA GB10", None)]
    found = hardware.find_hardware()
    assert [(gpu.index, gpu.memory >> 30) for gpu in found.gpus] == [(0, 79), (1, 0)]
    assert "NVIDIA H100" in found.sentence()
    assert [gpu.has_bf16 for gpu in found.gpus] == [True, None]
    driver.gpus = [("Tesla T4", 15 << 30)]
    assert hardware.find_hardware().gpus[0].has_bf16 is False


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (pynvml.NVMLError_LibraryNotFound, "No GPU was found"),
        (pynvml.NVMLError_DriverNotLoaded, "gave no list"),
        (pynvml.NVMLError_LibRmVersionMismatch, "gave no list"),
    ],
)
def test_no_gpu_is_said(driver, fault, said):
    driver.fault = fault()
    found = hardware.find_hardware()
    assert found.gpus == ()
    assert said in found.sentence() or found.apple


def test_a_gpu_that_is_lost_while_it_is_asked_leaves_a_doubt(driver, monkeypatch):
    driver.gpus = [("NVIDIA H100 80GB HBM3", 81559 << 20)]
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: (_ for _ in ()).throw(pynvml.NVMLError_GpuIsLost()))
    found = hardware.find_hardware()
    assert (found.gpus, "gave no list" in found.doubt) == ((), True)


def test_an_installation_without_the_package_says_so(monkeypatch):
    monkeypatch.setattr(hardware, "pynvml", None)
    assert "make install" in hardware.find_hardware().doubt
