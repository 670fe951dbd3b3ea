"""Event files as TensorBoard reads them."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.storage.tensorboard import Scalars

RECORD = {
    "epoch": 1,
    "train_loss": 2.0,
    "train_accuracy": 0.25,
    "test_loss": 1.5,
    "test_accuracy": 0.5,
    "learning_rate": 0.125,
    "examples_per_second": 1024.0,
    "seconds": 3.0,
    "rates": {"layers.1": 0.0625, "layers.3": 0.5},
}


def events(path):
    """The events of a file, with their checksums verified; ends where the file was cut off."""
    data = path.read_bytes()
    while len(data) >= 12:
        (length,) = struct.unpack("<Q", data[:8])
        if len(data) < 16 + length:
            return
        for part, stored in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            checksum = crc32c(part)
            masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack("<I", stored) == (masked,)
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def curves(folder):
    """{tag: [(step, value)]} after TensorBoard's rule: a session that starts at a step replaces all from there on."""
    curves = {}
    for path in sorted(Path(folder).iterdir()):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                curves = {tag: [p for p in points if p[0] < event.step] for tag, points in curves.items()}
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def write(folder, epochs, loss, monkeypatch, second=1000):
    """What a process that trains some epochs, and begins at a second, leaves; it may be killed after each."""
    monkeypatch.setattr("time.time", lambda: float(second + epochs[0]))
    scalars = Scalars(folder)
    for epoch in epochs:
        scalars.append({**RECORD, "epoch": epoch, "train_loss": loss})
    return scalars


def test_every_number_is_written(tmp_path):
    scalars = Scalars(tmp_path / "events")
    scalars.append(RECORD)
    assert curves(tmp_path / "events") == {
        "loss/train": [(1, 2.0)],
        "loss/test": [(1, 1.5)],
        "accuracy/train": [(1, 0.25)],
        "accuracy/test": [(1, 0.5)],
        "learning_rate": [(1, 0.125)],
        "examples_per_second": [(1, 1024.0)],
        "firing_rate/layers.1": [(1, 0.0625)],
        "firing_rate/layers.3": [(1, 0.5)],
    }
    scalars.close()


def test_resumed_curve_has_every_point_once(tmp_path, monkeypatch):
    write(tmp_path, [1, 2, 3], 4.0, monkeypatch)
    write(tmp_path, [3, 4], 3.0, monkeypatch).close()
    assert curves(tmp_path)["loss/train"] == [(1, 4.0), (2, 4.0), (3, 3.0), (4, 3.0)]
    assert len(list(tmp_path.iterdir())) == 2


def test_file_that_was_cut_off_does_no_harm(tmp_path, monkeypatch):
    write(tmp_path, [1, 2], 4.0, monkeypatch)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    write(tmp_path, [2], 3.0, monkeypatch)
    assert curves(tmp_path)["loss/train"] == [(1, 4.0), (2, 3.0)]


def test_nothing_is_made_before_the_first_record(tmp_path):
    Scalars(tmp_path / "events").close()
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "events").write_text("")
    with pytest.raises(OSError):
        Scalars(tmp_path / "events").append(RECORD)


def test_neither_torch_nor_tensorflow_is_imported(tmp_path):
    for name in ("torch", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pathlib import Path; "
        "from experiments.storage.tensorboard import Scalars; "
        f"Scalars(Path({str(tmp_path)!r}) / 'events').append({RECORD!r}); "
        "assert not {'torch', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert len(curves(tmp_path / "events")) == 8


def test_a_run_has_the_numbers_of_its_records(finished):
    ended = finished("--method=saf_f")
    found = curves(ended.workdir / "tensorboard")
    records = [json.loads(line) for line in (ended.workdir / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in found["loss/test"]] == [record["epoch"] for record in records]
    assert [value for _, value in found["loss/test"]] == pytest.approx([record["test_loss"] for record in records])
    assert {f"firing_rate/{layer}" for layer in records[0]["rates"]} <= set(found)
