"""Cepstra of signals whose spectrum is known, and recordings in the formats that speech comes in."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from lib.errors import ReproError
from lib.lab.speech import Cepstra, hertz, mel, read_recording, slope

CEPSTRA = Cepstra(sample_rate=8000)


def tone(frequency: float, samples: int = 800, loudness: float = 1000.0) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * frequency * np.arange(samples) / 8000)


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (200, 1), (279, 1), (280, 2), (360, 3), (800, 8), (801, 8)]
)
def test_frames_are_those_that_lie_in_the_recording(samples: int, frames: int) -> None:
    """25 ms are 200 samples, 10 ms are 80."""
    assert CEPSTRA.frames(samples) == frames
    assert CEPSTRA.of(tone(440, samples)).shape == (frames, 39)


def test_silence_is_finite() -> None:
    features = CEPSTRA.of(np.zeros(500))
    assert np.isfinite(features).all()
    assert np.abs(features[:, 1:]).max() < 1e-9


def test_loudness_moves_the_first_coefficient_alone() -> None:
    """Energies are multiplied by 4, so each logarithm grows by log 4: sqrt(bands) log 4 in the DCT."""
    signal = np.random.default_rng(0).normal(0, 1000, 1000)
    quiet, loud = CEPSTRA.of(signal), CEPSTRA.of(2 * signal)
    assert loud[:, 0] - quiet[:, 0] == pytest.approx(np.full(len(quiet), np.sqrt(26) * np.log(4)))
    assert loud[:, 1:] == pytest.approx(quiet[:, 1:])


@pytest.mark.parametrize("frequency", [300.0, 1000.0, 2500.0])
def test_a_tone_lies_in_the_band_around_it(frequency: float) -> None:
    filters = CEPSTRA.filters(200)
    power = np.abs(np.fft.rfft(tone(frequency, 200) * np.hamming(200))) ** 2
    loudest = int((filters @ power).argmax())
    edges = hertz(np.linspace(0, mel(4000), 28))
    assert edges[loudest] < frequency < edges[loudest + 2]


def test_filters_are_triangles_that_add_up_to_one_between_the_outer_peaks() -> None:
    filters = CEPSTRA.filters(4000)
    peaks = hertz(np.linspace(0, mel(4000), 28))[1:-1]
    frequencies = np.fft.rfftfreq(4000, 1 / 8000)
    inner = (frequencies >= peaks[0]) & (frequencies <= peaks[-1])
    assert filters.min() == 0
    assert filters[:, inner].sum(axis=0) == pytest.approx(np.ones(inner.sum()))


def test_mel_and_back() -> None:
    assert mel(700) == pytest.approx(2595 * np.log10(2))
    assert hertz(np.array([mel(1234.5)]))[0] == pytest.approx(1234.5)


def test_the_slope_of_a_line_is_its_own_and_the_ends_are_flatter() -> None:
    line = 3.0 * np.arange(6)[:, None]
    # at the first frame: (3 - 0 + 2 (6 - 0)) / 10, since the frame itself stands in for those before it
    assert slope(line)[:, 0] == pytest.approx([1.5, 2.4, 3.0, 3.0, 2.4, 1.5])
    assert slope(np.ones((1, 2))).tolist() == [[0.0, 0.0]]


def nist(samples: np.ndarray, **changes: str) -> bytes:
    """A NIST SPHERE file; `changes` replace fields of its header."""
    fields = {
        "channel_count": "-i 1",
        "sample_count": f"-i {len(samples)}",
        "sample_rate": "-i 8000",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": "-s2 01",
        "sample_coding": "-s3 pcm",
    } | changes
    order = ">i2" if fields["sample_byte_format"].endswith("10") else "<i2"
    header = (
        "NIST_1A\n   1024\n" + "".join(f"{key} {value}\n" for key, value in fields.items()) + "end_head\n"
    )
    return header.encode().ljust(1024) + samples.astype(order).tobytes()


SAMPLES = np.array([0, 1, -2, 300, -32768, 32767])


@pytest.mark.parametrize("changes", [{}, {"sample_byte_format": "-s2 10"}])
def test_nist_recordings_of_either_byte_order_are_read(tmp_path: Path, changes: dict[str, str]) -> None:
    path = tmp_path / "SX1.WAV"
    path.write_bytes(nist(SAMPLES, **changes))
    assert read_recording(path, 8000).tolist() == SAMPLES.tolist()


def test_riff_recordings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "0_a_0.wav"
    wavfile.write(path, 8000, SAMPLES.astype(np.int16))
    assert read_recording(path, 8000).tolist() == SAMPLES.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable recording"),
        (b"NIST_1A\n", "is not a readable recording"),
        (b"RIFF", "is not a readable recording"),
        (b"mp3", "is not a readable recording"),
        (nist(SAMPLES)[:-2], "its header counts 6 samples, 5 follow"),
        (nist(SAMPLES)[:-1], "its header counts 6 samples, 5.5 follow"),
        (nist(SAMPLES, sample_coding="-s26 pcm,embedded-shorten-v2.00"), "unpack it with sph2pipe"),
        (nist(SAMPLES, sample_byte_format="-s1 1"), "is not a readable recording"),
        (nist(SAMPLES, channel_count="-i 2"), "expected one channel of 2 bytes, found 2 of 2"),
        (nist(SAMPLES, sample_rate="-i 16000"), "expected 8000 samples a second, found 16000"),
        (nist(SAMPLES[:0]), "holds no sample"),
    ],
)
def test_a_recording_that_is_not_one_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "SX1.WAV"
    path.write_bytes(content)
    with pytest.raises(ReproError, match=f"SX1.WAV.*{message}"):
        read_recording(path, 8000)


def test_stereo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    wavfile.write(path, 8000, np.zeros((10, 2), np.int16))
    with pytest.raises(ReproError, match="expected one channel of 2 bytes, found 2 of 2"):
        read_recording(path, 8000)


@pytest.mark.parametrize("lost", [1, 2, 20, 40, 50])
def test_a_recording_cut_short_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "0_a_0.wav"
    wavfile.write(path, 8000, SAMPLES.astype(np.int16))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ReproError, match=r"0_a_0\.wav is not a readable recording"):
        read_recording(path, 8000)
