"""Where XLA's compilers for accelerators are: plugins of JAX, which need no accelerator and no driver.

They are looked for among the packages of this process, and before these in the folders that the environment variable
SAFJAX_COMPILERS names. There they are out of JAX's sight: a plugin for CUDA that it finds on a machine without a GPU
makes it complain at every start.
"""

import contextlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

FOLDER = "SAFJAX_COMPILERS"
CUDA = ("jax-cuda12-plugin", "jax-cuda13-plugin")
TOOLS = ("nvidia/cuda_nvcc", "nvidia/cu13")
"""Folders within packages where NVIDIA's assembler, `ptxas`, may be."""


class CompilerMissing(ImportError):
    """XLA's compiler for a device is not installed; the message says what to install."""


def versions(platform: str) -> dict[str, str]:
    """Of all that has a part in what a program is compiled to.

    Raises:
      CompilerMissing: the compiler for this platform is not installed, or is of another version than JAX.
    """
    needed = {"flatbuffers": _version("flatbuffers")}
    if platform == "tpu":
        needed["libtpu"] = _version("libtpu")
    else:
        plugin = next(filter(_version, CUDA), CUDA[0])
        needed |= {plugin: _version(plugin), "nvidia-cuda-nvcc-cu12": _version("nvidia-cuda-nvcc-cu12") or _assembler()}
        if needed[plugin] not in ("", jax.__version__):
            raise CompilerMissing(
                f"{plugin} is of version {needed[plugin]}, but JAX of {jax.__version__}: both must be of one. Write "
                f"pip install {plugin}=={jax.__version__}."
            )
    if missing := [name for name, version in needed.items() if not version]:
        raise CompilerMissing(_how(platform, missing))
    return {"jax": jax.__version__, **needed}


def environment(platform: str) -> dict[str, str]:
    """Of a process that compiles: with this one's packages, and without what it was told of devices."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "TPU_"))}
    ours |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "PYTHONPATH": os.pathsep.join(_places())}
    if platform == "tpu":
        # Nobody is to be asked what machine this is; several processes may compile at once.
        local = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
        return ours | local | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    tools = Path(_assembler()).parent
    ours["PATH"] = os.pathsep.join([str(tools), ours.get("PATH", "")])
    # Which of several kernels is fastest could only be found out by running them.
    ours["XLA_FLAGS"] = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={tools.parent}"
    return ours


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """While entered, what lies in the folder can be imported."""
    before = list(sys.path)
    sys.path[:] = _places()
    try:
        yield
    finally:
        sys.path[:] = before


def _how(platform: str, missing: list[str]) -> str:
    extra = "aot-tpu" if platform == "tpu" else "aot-cuda"
    alone = [f"{name}=={jax.__version__}" if name in CUDA else name for name in missing]
    alone += [f"{name.replace('plugin', 'pjrt')}=={jax.__version__}" for name in missing if name in CUDA]
    return (
        f"To compile for {platform.upper()} devices, {' and '.join(missing)} must be installed; no such device and no "
        f"driver is needed. Write pip install 'safjax[{extra}]'; or, so that JAX does not look for such devices here, "
        f"pip install --no-deps --target FOLDER {' '.join(alone)}, and set {FOLDER}=FOLDER."
    )


def _places() -> list[str]:
    own = filter(None, os.environ.get(FOLDER, "").split(os.pathsep))
    return [*(str(Path(place).expanduser().absolute()) for place in own), *filter(None, sys.path)]


def _version(distribution: str) -> str:
    """ "" of one that is not installed."""
    found = importlib.metadata.distributions(name=distribution, path=_places())
    return next((one.version for one in found), "")


def _assembler() -> str:
    """The path of `ptxas`, "" if there is none."""
    inside = (Path(place) / folder / "bin" / "ptxas" for place in _places() for folder in TOOLS)
    return next((str(path) for path in inside if path.is_file()), "") or shutil.which("ptxas") or ""
