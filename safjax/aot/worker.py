"""Compiles programs for devices that are not there, in a process of its own: `python -P worker.py FOLDER`.

The compiler comes with a plugin that must be told of the platform before JAX has begun, may end the process on what it
does not like, and has no business beside the devices that a user's process holds. `safjax.aot.compiling` starts it and
says in FOLDER/task.json what is to be done. It imports JAX alone.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies


def compiled(blob: bytes, donated: list[int], devices: list[Any]) -> Any:
    """The program of a serialised `jax.export.Exported` that takes arrays and gives arrays."""
    exported = jax.export.deserialize(bytearray(blob))
    shardings = _shardings(exported, devices[: exported.nr_devices])
    arguments = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding)
        for aval, sharding in zip(exported.in_avals, shardings, strict=True)
    ]
    # An argument that the program does not read is no part of it, as in the process that wrote it.
    return jax.jit(exported.call, donate_argnums=donated).lower(*arguments).compile()


def _shardings(exported: Any, devices: list[Any]) -> list[Any]:
    if len(devices) == 1:
        return [jax.sharding.SingleDeviceSharding(devices[0])] * len(exported.in_avals)
    mesh = jax.sharding.Mesh(devices, ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return [sharding or whole for sharding in exported.in_shardings_jax(mesh)]


def sizes(program: Any) -> dict[str, int]:
    """Bytes of each device, by what they are for."""
    memory = program.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "shared": memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
    }


def main(folder: Path) -> None:
    """Compiles what the task says, and tells on stdout what is done."""
    task = json.loads((folder / "task.json").read_text())
    topology = topologies.get_topology_desc(task["topology"], task["platform"], **task["options"])
    for name, donated in task["programs"].items():
        try:
            program = compiled((folder / f"{name}.program").read_bytes(), donated, list(topology.devices))
            with gzip.open(folder / f"{name}.hlo.gz", "wt", encoding="utf-8") as file:
                file.write(program.as_text())
            (folder / f"{name}.json").write_text(json.dumps(sizes(program)))
        except Exception as error:
            (folder / f"{name}.error").write_text(f"{type(error).__name__}: {error}")
        print(name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
