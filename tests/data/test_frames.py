"""Frames of events: the published definitions, what is counted and what is not, and frames one by one."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safjax import data
from tests.data.test_golden_events import FILES, GOLDEN, LISTS, OPENERS, SPIKES, needs

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GRID = data.Grid((3, 5))


def made(rows):
    return data.as_events(*np.array(rows, np.int64).reshape(-1, 4).T)


@st.composite
def recordings(draw, most=40, ordered=True):
    place = st.tuples(st.integers(0, 300), st.integers(0, 4), st.integers(0, 2), st.integers(0, 1))
    rows = draw(st.lists(place, max_size=most))
    return made(sorted(rows) if ordered else rows)


def naive(events, frame_of, steps, sensor=(3, 5)):
    counts = np.zeros((steps, *sensor, 2), np.int64)
    for i, (_, x, y, p) in enumerate(zip(*events, strict=True)):
        if 0 <= frame_of[i] < steps:
            counts[frame_of[i], y, x, p] += 1
    return counts


def digest(frames):
    """As SpikingJelly lays frames out: [T, P, H, W]."""
    return hashlib.sha256(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).astype("<u2").tobytes()).hexdigest()


def check(frames, events, sensor):
    """Frames of both kinds that the file of expected results lists."""
    for how, want in frames.items():
        kind, number = how.rsplit("_", 1)
        if kind == "by_number":
            found = data.by_count(events, int(number), data.Grid(sensor))
        else:
            found = data.by_duration(events, int(number.removesuffix("us")), data.Grid(sensor))
        steps, channels, height, width = want["shape_T_P_H_W"]
        assert found.counts.shape == (steps, height, width, channels) and found.dropped == 0
        assert found.counts.sum((1, 2)).tolist() == want["events_per_frame_off_on"]
        assert digest(found.counts) == want["sha256_uint16_le_C_order"]


@pytest.mark.parametrize("name", [name for name, want in LISTS.items() if "frames" in want])
def test_frames_are_those_of_spikingjelly(name):
    want = LISTS[name]
    check(want["frames"], OPENERS[want["kind"]](GOLDEN / name).read(), tuple(want["sensor_h_w"]))


@pytest.mark.parametrize("name", [name for name, want in FILES.items() if "trials" in want])
def test_frames_of_trials_are_those_of_spikingjelly(name):
    path = GOLDEN / name
    trials = data.read_trials(path.with_name(f"{path.stem}_labels.csv"))
    for want, (_, events) in zip(FILES[name]["trials"], data.cut(data.open_aedat3(path), trials), strict=True):
        check(want["frames"], events, (128, 128))


@QUICK
@given(recordings(), st.integers(1, 400), st.integers(1, 7), st.sampled_from([None, 0, 50, 400]))
def test_by_duration(events, duration, steps, start):
    begin = start if start is not None else int(events.t[0]) if events.t.size else 0
    found = data.by_duration(events, duration, GRID, steps, start)
    want = naive(events, (events.t - begin) // duration, steps)
    np.testing.assert_array_equal(found.counts, want)
    assert found.dropped == events.t.size - want.sum() and found.counts.dtype == np.uint16
    if start is None:
        every = data.by_duration(events, duration, GRID)
        assert every.counts.sum() == events.t.size and every.dropped == 0
        assert len(every.counts) == (0 if not events.t.size else (events.t[-1] - begin) // duration + 1)


@QUICK
@given(recordings(), st.integers(1, 9))
def test_by_count_and_by_parts(events, steps):
    number = events.t.size
    frame = (
        np.minimum(np.arange(number) // max(number // steps, 1), steps - 1)
        if number >= steps
        else np.full(number, steps - 1)
    )
    np.testing.assert_array_equal(data.by_count(events, steps, GRID).counts, naive(events, frame, steps))
    if number:
        part = (events.t[-1] - events.t[0]) // steps
        frame = np.minimum((events.t - events.t[0]) // part, steps - 1) if part else np.full(number, steps - 1)
    found = data.by_parts(events, steps, GRID)
    np.testing.assert_array_equal(found.counts, naive(events, frame, steps))
    assert found.counts.sum() == number and found.dropped == 0


@QUICK
@given(st.data())
def test_a_stream_makes_the_same_frames_from_any_blocks(draw):
    events = draw.draw(recordings())
    borders = sorted(draw.draw(st.lists(st.integers(0, events.t.size), max_size=6)))
    blocks = [events.where(slice(a, b)) for a, b in zip([0, *borders], [*borders, events.t.size], strict=True)]
    duration = draw.draw(st.one_of(st.integers(1, 120), st.floats(0.5, 90)))
    steps, start = draw.draw(st.one_of(st.none(), st.integers(1, 6))), draw.draw(st.sampled_from([None, 0, 40, 500]))
    want = data.by_duration(events, duration, GRID, steps, start)
    stream = data.FrameStream(blocks, duration, GRID, steps, start)
    found = list(stream)
    np.testing.assert_array_equal(np.array(found, np.uint16).reshape(-1, 3, 5, 2), want.counts)
    assert (stream.dropped, stream.handed) == (want.dropped, len(want.counts))


def test_a_stream_lets_times_go_back_by_a_block_and_refuses_more():
    rows = [(10, 0, 0, 1), (90, 1, 0, 1), (55, 2, 0, 1), (120, 3, 0, 1), (70, 0, 1, 1), (150, 1, 1, 1), (300, 2, 1, 0)]
    events = made(rows)
    blocks = [events.where(slice(i, i + 2)) for i in range(0, 7, 2)]
    with pytest.warns(data.OutOfOrder):
        want = data.by_duration(events, 50, GRID, start=0)
    np.testing.assert_array_equal(list(data.FrameStream(blocks, 50, GRID, start=0)), want.counts)
    late = [*blocks[:3], made([(20, 0, 0, 1)])]
    with pytest.raises(ValueError, match="t = 20 comes after frame 0, which ended after it"):
        list(data.FrameStream(late, 50, GRID, start=0))


def test_a_stream_hands_a_frame_on_as_soon_as_it_is_over():
    taken = []

    def blocks():
        for t in (0, 10, 25, 60):
            taken.append(t)
            yield made([(t, 0, 0, 1)])

    stream = iter(data.FrameStream(blocks(), 20, GRID))
    assert next(stream).sum() == 2 and taken == [0, 10, 25]
    assert next(stream).sum() == 1 and next(stream).sum() == 0 and taken == [0, 10, 25, 60]


def test_times_out_of_order_and_times_since_1970():
    with pytest.warns(data.OutOfOrder, match="go back 1 times"):
        found = data.by_duration(made([(70, 0, 0, 1), (10, 1, 0, 0)]), 50, GRID, start=0)
    assert found.counts.sum((1, 2)).tolist() == [[1, 0], [0, 1]]
    late = 1_499_875_000_000_037
    events = made([(late + t, 0, 0, 1) for t in (0, 999, 1000)])
    assert data.by_duration(events, 1000, GRID).counts.sum((1, 2, 3)).tolist() == [2, 1]
    with pytest.raises(ValueError, match="some clocks count from the year 1970"):
        data.by_duration(events, 1000, GRID, start=0)


def test_bins_of_broken_durations_begin_where_they_should():
    """At 30 frames a second every third frame begins at a whole number of µs."""
    events = made([(t, 0, 0, 1) for t in (33_333, 33_334, 99_999, 100_000, 100_001)])
    assert data.by_duration(events, 1e6 / 30, GRID, start=0).counts.sum((1, 2, 3)).tolist() == [1, 1, 1, 2]
    assert 7 * (1e6 / 7) > 1_000_000, "in floating point"
    events = made([(999_999, 0, 0, 1), (1_000_000, 0, 0, 0)])
    assert data.by_duration(events, 1e6 / 7, GRID, start=0).counts.sum((1, 2))[6:].tolist() == [[0, 1], [1, 0]]
    assert len(list(data.FrameStream([events], 1e6 / 7, GRID, start=0))) == 8


@pytest.mark.parametrize("make", [
    lambda events, grid: data.by_duration(events, 50, grid, steps=4),
    lambda events, grid: data.by_count(events, 4, grid), lambda events, grid: data.by_parts(events, 4, grid),
])  # fmt: skip
def test_no_events(make):
    for rows in ([], [(7, 1, 1, 1)]):
        found = make(made(rows), GRID)
        assert found.counts.shape == (4, 3, 5, 2) and found.counts.sum() == len(rows) and found.dropped == 0
    assert data.by_duration(made([]), 50, GRID).counts.shape == (0, 3, 5, 2)
    assert list(data.FrameStream([], 50, GRID)) == [] and len(list(data.FrameStream([], 50, GRID, steps=3))) == 3


@QUICK
@given(recordings(), st.integers(1, 6), st.booleans(), st.sampled_from([None, 1, 2, 300]))
def test_grids(events, pool, merged, clip):
    """Squares of pixels and polarities add up; a clip comes last."""
    grid = data.Grid((3, 5), pool, merged, clip)
    counts = data.by_duration(events, 100, data.Grid((3, 5)), steps=4, start=0).counts.astype(int)
    want = np.zeros((4, -(-3 // pool), -(-5 // pool), 2), int)
    for y in range(3):
        for x in range(5):
            want[:, y // pool, x // pool] += counts[:, y, x]
    want = want.sum(-1, keepdims=True) if merged else want
    want = want if clip is None else np.minimum(want, clip)
    found = data.by_duration(events, 100, grid, steps=4, start=0).counts
    np.testing.assert_array_equal(found, want)
    assert found.dtype == (np.uint8 if clip in (1, 2) else np.uint16) and found.shape[1:] == grid.shape


def test_counts_that_do_not_fit_are_refused_or_clipped():
    events = made(np.tile([(0, 0, 0, 1)], (70_000, 1)))
    with pytest.raises(ValueError, match="70,000 events in one place"):
        data.by_duration(events, 50, GRID)
    for clip, kind in ((255, np.uint8), (256, np.uint16), (65535, np.uint16)):
        found = data.by_duration(events, 50, data.Grid((3, 5), clip=clip)).counts
        assert found.max() == clip and found.dtype == kind


def test_the_order_of_axes():
    counts = data.by_count(made([(0, 4, 1, 0), (1, 2, 0, 1)]), 1, GRID).counts
    assert np.argwhere(counts).tolist() == [[0, 0, 2, 1], [0, 1, 4, 0]]


def test_frames_added_up_in_time():
    counts = np.arange(10, dtype=np.uint8).reshape(5, 2, 1, 1) * 20
    assert data.pool_time(counts, 2)[:, :, 0, 0].tolist() == [[40, 80], [200, 240], [160, 180]]
    assert data.pool_time(counts, 5, clip=255).max() == 255 and data.pool_time(counts[:0], 2).shape == (0, 2, 1, 1)
    events = made([(t, t % 5, t % 3, t % 2) for t in range(300)])
    fine, coarse = (data.by_duration(events, d, GRID, start=0).counts for d in (10, 40))
    np.testing.assert_array_equal(data.pool_time(fine, 4), coarse)


@pytest.mark.parametrize("call, match", [
    (lambda: data.Grid((0, 5)), "expected \\(height, width\\)"), (lambda: data.Grid((3, 5), pool=0), "pool=0"),
    (lambda: data.Grid((3, 5), clip=0), "clip=0"), (lambda: data.Grid((1 << 16, 1 << 16)), "1 to 2\\^30"),
    (lambda: data.by_duration(made([]), 0, GRID), "duration=0"), (lambda: data.by_count(made([]), 0, GRID), "steps=0"),
    (lambda: data.by_duration(made([]), np.inf, GRID, 3), "duration=inf"),
    (lambda: data.by_parts(made([]), 0, GRID), "steps=0"), (lambda: data.FrameStream([], -1, GRID), "duration=-1"),
    (lambda: data.FrameStream([], 1, GRID, steps=0), "steps=0"),
    (lambda: data.pool_time(np.zeros((2, 1)), 0), "bins=0"),
    (lambda: data.by_count(made([(0, 5, 0, 1)]), 1, GRID), "expected a sensor of height 3 and width 5"),
    (lambda: data.by_count(made([(0, 0, 3, 1)]), 1, GRID), "expected a sensor of height 3"),
    (lambda: data.by_count(made([(0, -1, 0, 1)]), 1, GRID), "from x = -1"),
])  # fmt: skip
def test_what_cannot_be(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("name", SPIKES)
def test_rasters(name):
    needs("hsd")
    for spikes in data.open_hdf5(GOLDEN / name).samples():
        for duration, steps, pool, clip in ((1e6 / 256, 256, 1, 1), (10_000, 100, 5, None), (4000, 250, 7, 4)):
            found = data.raster(spikes, duration, steps, pool=pool, clip=clip)
            want = np.zeros((steps, 700 // pool), int)
            for time, unit in zip(spikes.times, spikes.units, strict=True):
                if time * 1e6 / duration < steps:
                    want[int(time * 1e6 / duration), unit // pool] += 1
            np.testing.assert_array_equal(found.counts, want if clip is None else np.minimum(want, clip))
            assert found.dropped == spikes.times.size - want.sum()
