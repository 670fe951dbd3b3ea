"""Exported programs of a net, and the files that hold them."""

import functools
import importlib.metadata
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

FORMAT = 1
SUFFIX = ".jax_export"

Path = str | os.PathLike[str]


class Exported:
    """The programs of a net, made by `safjax.export` or read from a file.

    Attributes:
      programs: "predict", (arrays, x) ↦ outputs; and of a net that goes step by step, "start", (arrays, x[0]) ↦ state,
        and "stream", (arrays, state, x[t]) ↦ (state, output). Each a `jax.export.Exported`; its mlir_module() is
        StableHLO for other compilers.
      arrays: weights and other numbers of the net by their paths, as `safjax.nn.named_arrays` names them.
      about: what `meta.json` of a file says: "format", "safjax" and "jax" (versions), "x64", "steps", "outputs", "x"
        (shapes and dtypes; "b" members, "t" steps), "platforms", "programs" and "dtypes" of the arrays.
    """

    def __init__(
        self, programs: Mapping[str, jax_export.Exported], arrays: Mapping[str, Any], about: Mapping[str, Any]
    ):
        self.programs, self.arrays = dict(programs), dict(arrays)
        rest = {"platforms": list(self.programs["predict"].platforms), "programs": list(self.programs)}
        self.about = {**about, **rest, "dtypes": {name: str(a.dtype) for name, a in self.arrays.items()}}

    def predict(self, x: Any) -> Any:
        """The outputs as of `safjax.predict`, of an image or of a whole sequence, as was exported."""
        return self._compiled["predict"](self.arrays, x)

    def start(self, x: Any) -> dict[str, jax.Array]:
        """The state at rest, before the first step, for inputs like x[B, ...].

        Raises:
          ValueError: the net needs all steps at once.
        """
        return self._stepwise("start")(self.arrays, x)

    def stream(self, state: dict[str, jax.Array], x: Any) -> tuple[dict[str, jax.Array], Any]:
        """(state[t−1], x[t]) ↦ (state[t], output[t]); the state is a dictionary of arrays.

        Raises:
          ValueError: the net needs all steps at once.
        """
        return self._stepwise("stream")(self.arrays, state, x)

    def save(self, path: Path, arrays: Path | None = None) -> None:
        """Writes a file, which replaces one of that name.

        Args:
          path: of the file, a zip archive of `meta.json`, the programs, and `arrays.npz`.
          arrays: of a second file, of safetensors, for the arrays to lie beside; None puts them into the first one.

        Raises:
          ImportError: a package is missing, flatbuffers or safetensors; the message says what to install.
        """
        contents = {f"{name}{SUFFIX}": _serialised(program) for name, program in self.programs.items()}
        if arrays is None:
            contents["arrays.npz"] = _npz(self.arrays)
        else:
            _safetensors().save_file(dict(self.arrays), arrays, metadata={"safjax": self.about["safjax"]})
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("meta.json", json.dumps(self.about, indent=1))
            for name, content in contents.items():
                file.writestr(name, content)

    @classmethod
    def load(cls, path: Path, arrays: Path | None = None) -> "Exported":
        """Reads what `save` has written. The page on export has the ten lines that do so without safjax.

        Args: as of `save`.

        Raises:
          ValueError: the file is none of these, or says that its arrays lie beside.
          ImportError: as of `save`.
        """
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
            about = json.loads(file.read("meta.json")) if "meta.json" in names else {}
            if about.get("format") != FORMAT:
                raise ValueError(
                    f"{path}: expected a file that safjax.export(...).save(...) wrote, of format {FORMAT}."
                )
            if arrays is None and "arrays.npz" not in names:
                raise ValueError(
                    f"{path} holds programs alone; its arrays were saved beside. Write Exported.load({str(path)!r}, "
                    "arrays='....safetensors')."
                )
            programs = {name: _deserialised(file.read(f"{name}{SUFFIX}")) for name in about["programs"]}
            stored = (
                _read(file.read("arrays.npz"), about["dtypes"]) if arrays is None else _safetensors().load_file(arrays)
            )
        return cls(programs, stored, about)

    @functools.cached_property
    def _compiled(self) -> dict[str, Callable[..., Any]]:
        return {name: jax.jit(program.call) for name, program in self.programs.items()}

    def _stepwise(self, name: str) -> Callable[..., Any]:
        if name not in self.programs:
            raise ValueError(
                "A layer of the exported net computes all steps of a sequence at once, so it cannot go one step at a "
                "time. Run it by predict(x), or build it from layers that can, such as LIF, ALIF or SlidingPSN."
            )
        return self._compiled[name]


def about(steps: int | None, outputs: str, shapes: Any) -> dict[str, Any]:
    """What a file says of a net's programs."""
    x = jax.tree.map(lambda a: {"shape": [_size(n) for n in a.shape], "dtype": str(a.dtype)}, shapes)
    versions = {"safjax": importlib.metadata.version("safjax"), "jax": jax.__version__}
    wide = jax.numpy.result_type(float) == np.float64
    return {"format": FORMAT, **versions, "x64": wide, "steps": steps, "outputs": outputs, "x": x}


def _size(size: Any) -> int | str:
    return size if isinstance(size, int) else str(size)


def _serialised(program: jax_export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise ImportError(_MISSING.format("flatbuffers")) from error


def _deserialised(content: bytes) -> jax_export.Exported:
    try:
        return jax_export.deserialize(bytearray(content))
    except ImportError as error:
        raise ImportError(_MISSING.format("flatbuffers")) from error


def _safetensors() -> Any:
    try:
        from safetensors import flax
    except ImportError as error:
        raise ImportError(_MISSING.format("safetensors")) from error
    return flax


_MISSING = "Files of exported nets need the package {}: pip install 'safjax[export]'."


def _npz(arrays: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    stored: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(content, **stored)
    return content.getvalue()


def _read(content: bytes, dtypes: Mapping[str, str]) -> dict[str, jax.Array]:
    """The arrays; NumPy does not know bfloat16 by name and reads bytes, whose dtype the file says."""
    stored = np.load(io.BytesIO(content))
    return {name: jax.numpy.asarray(stored[name].view(dtype)) for name, dtype in dtypes.items()}
