"""Whether a run fits: the search for the largest batch, the table, and what is refused. Nothing is compiled here."""

import pytest

from experiments.config import Config, Data, DatasetName, Run
from experiments.fits import __main__ as fits
from experiments.fits.largest import Search, Trial
from experiments.fits.shapes import EVENTS, IMAGES, shape_of
from experiments.fits.steps import step_of
from safjax.aot import DEVICES, CompilationFailed, Memory, Program, device_named
from safjax.data import Grid
from safjax.rules import RULES

HLO = """ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} negate(%a)
}
"""


def searched(limit, needed, batch=64, multiple=1):
    """(the largest batch found, the batches that were tried) where a batch needs so many bytes."""
    search = Search(limit, multiple, [Trial(b, needed(b)) for b in (batch, 2 * batch)])
    tried = []
    while (wanted := search.next) is not None:
        tried.append(wanted)
        search.add(Trial(wanted, needed(wanted)))
    return search.largest, tried


def test_the_largest_batch_is_found_by_one_compilation_where_memory_is_affine():
    assert searched(1e9, lambda batch: int(5e7 + 1e5 * batch)) == (9496, [9496])


def test_a_curve_takes_a_few_more():
    largest, tried = searched(1e9, lambda batch: int(5e7 + 1e5 * batch + 2 * batch**2))
    assert largest and len(tried) <= 3
    assert 5e7 + 1e5 * largest + 2 * largest**2 <= 1e9


def test_a_compiler_that_refuses_what_is_too_large():
    """As that for TPUs does: both first batches are too large, and one that fits is found below."""
    largest, _ = searched(1e9, lambda batch: int(1e7 * batch) if batch <= 100 else None, batch=512, multiple=4)
    assert 0 < largest <= 100 and largest % 4 == 0


def test_nothing_fits():
    assert searched(1e6, lambda batch: int(5e7 + 1e5 * batch))[0] == 0


def test_shapes_of_published_sets():
    assert set(IMAGES) | set(EVENTS) < set(DatasetName.__args__)
    for name, side, pool in (("nmnist", 34, 1), ("dvs_gesture", 128, 1), ("cifar10_dvs", 128, 2)):
        assert shape_of(Data(dataset=name), "")[0].input_shape == Grid((side, side), pool).shape
        assert shape_of(Data(dataset=name, pool=3), "")[0].input_shape == Grid((side, side), 3).shape
    assert shape_of(Data(dataset="shd", chain=3), "") == (((140,), 6, None), None)
    assert shape_of(Data(dataset="imagenet", image_size=64), "") == (((64, 64, 3), 1000, None), 6)


def test_the_step_is_one_of_shapes_alone():
    config = Config(data=Data(dataset="cifar10", batch_size=6))
    step = step_of(config, *shape_of(config.data, ""), 1)
    # Four bytes a parameter, as many for the momentum; one count on top.
    assert step.net == 4 * 9_228_362 and step.net <= step.optimizer <= step.net + 8


def run(monkeypatch, capsys, *flags, refused=(), slope=1e6):
    """(exit code, stdout's table, stderr) where a step needs `slope` bytes an example."""

    def compiled(device, calls, cache, announce):
        results = {}
        for name in calls:
            method, batch = name.split(", batch ")
            memory = Memory(80_000_000, 0, 0, int(slope * int(batch)))
            failed = CompilationFailed(f"{name}: RESOURCE_EXHAUSTED") if method in refused else None
            results[name] = failed or Program(device, 1, memory, HLO)
        return results

    monkeypatch.setattr(fits, "compile_for", compiled)
    code = fits.main(["cifar10", "--layers", "8", *flags])
    out, err = capsys.readouterr()
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("|")]
    return code, [dict(zip(lines[0], line, strict=True)) for line in lines[2:]], err


def test_the_table(monkeypatch, capsys):
    code, [row], _ = run(monkeypatch, capsys, "--method=saf_f", "--batch-size=100", "--device=l4")
    assert code == 0
    assert (row["method"], row["fits"], row["memory"], row["kernels"]) == ("saf_f", "yes", "180 MB", "1")
    limit = 0.75 * DEVICES["l4"].memory
    assert int(row["largest batch"].replace(",", "")) == int((limit - 8e7) / 1e6) // 8 * 8


def test_all_methods_and_one_that_is_refused(monkeypatch, capsys):
    code, rows, _ = run(monkeypatch, capsys, "--method=all", "--no-largest", refused=("bptt",))
    assert code == 0 and [row["method"] for row in rows] == list(RULES)
    others = {row["method"]: row["fits"] for row in rows if row["fits"] != "yes"}
    assert others.pop("bptt") == "no: RESOURCE_EXHAUSTED"
    # Some rules train no convolutions.
    assert all("not trained by this rule: The rule" in words for words in others.values())
    assert {"saf_f", "ottt_a", "exodus"}.isdisjoint(others)


def test_what_does_not_fit(monkeypatch, capsys):
    _, [row], _ = run(monkeypatch, capsys, "--share=0.01", "--batch-size=512", "--device=l4")
    assert row["fits"] == "no" and 0 < int(row["largest batch"]) < 512


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--steps=None"], "--steps=None"),
        (["--devices=64"], "--devices=64"),
    ],
)
def test_refusals(monkeypatch, capsys, flags, said):
    code, _, err = run(monkeypatch, capsys, *flags)
    assert code == 2 and err.startswith("error:") and said in err


def test_a_share_is_one():
    with pytest.raises(SystemExit, match="2"):
        fits.main(["cifar10", "--share=2"])


def test_without_a_compiler_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("SAFJAX_COMPILERS", "/nowhere")
    monkeypatch.setattr("safjax.aot.plugins._version", lambda name: "")
    assert fits.main(["cifar10", "--layers", "8", "--no-largest"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'safjax[aot-cuda]'" in err and "SAFJAX_COMPILERS" in err


def test_devices_have_figures():
    """Products narrower than float32 are no slower, and a GPU's shared memory holds a block's."""
    assert Run().devices is None
    for name, device in DEVICES.items():
        assert device_named(name) is device and device.bfloat16 >= device.float32 > device.bandwidth
        assert device.gpu is None or device.gpu.shared[0] > device.gpu.shared[1]
    with pytest.raises(ValueError, match="h100"):
        device_named("abacus")
