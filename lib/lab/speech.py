"""Recordings of speech: reading them from RIFF or NIST files, and their mel-frequency cepstra over time."""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft

from lib.errors import ReproError

Signal = np.ndarray
"""Samples (sample,) as float64, in units of the recording (16-bit integers)."""

QUIETEST = 1.0
"""Least mel energy that is told from silence: below the rounding of 16-bit samples."""


@dataclass(frozen=True)
class Cepstra:
    """Mel-frequency cepstra with their first and second differences: 3 `coefficients` numbers a frame.

    The usual front end of recognisers (Davis and Mermelstein 1980; the numbers are HTK's): pre-emphasis
    0.97, Hamming windows, triangular filters spaced evenly in mel from 0 Hz to half of `sample_rate`,
    logarithm, orthonormal DCT-II, regression over two frames on either side for the differences.
    """

    sample_rate: int
    window_ms: float = 25.0
    hop_ms: float = 10.0
    bands: int = 26
    coefficients: int = 13

    @property
    def window(self) -> int:
        """Samples in a frame."""
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.sample_rate * self.hop_ms / 1000)

    @property
    def size(self) -> int:
        """Numbers a frame."""
        return 3 * self.coefficients

    def frames(self, samples: int) -> int:
        """Frames that lie in a recording whole, at least one: a shorter recording is filled with zeros."""
        return 1 + max(0, samples - self.window) // self.hop

    def of(self, signal: Signal) -> np.ndarray:
        """Features (frame, size) of a recording."""
        emphasised = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
        emphasised = np.pad(emphasised, (0, max(0, self.window - len(signal))))
        starts = self.hop * np.arange(self.frames(len(signal)))
        windows = emphasised[starts[:, None] + np.arange(self.window)] * np.hamming(self.window)
        points = fft.next_fast_len(self.window, real=True)
        power = np.abs(fft.rfft(windows, points)) ** 2
        energy = np.log(np.maximum(power @ self.filters(points).T, QUIETEST))
        static = fft.dct(energy, norm="ortho")[:, : self.coefficients]
        first = slope(static)
        return np.concatenate([static, first, slope(first)], axis=1)

    def filters(self, points: int) -> np.ndarray:
        """Triangles of height 1 (band, frequency) over the `points // 2 + 1` frequencies of a spectrum."""
        top = mel(self.sample_rate / 2)
        corners = hertz(np.linspace(0, top, self.bands + 2))[:, None]
        frequencies = np.fft.rfftfreq(points, 1 / self.sample_rate)
        rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
        falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
        triangles: np.ndarray = np.clip(np.minimum(rising, falling), 0, None)
        return triangles


def mel(hertz: float) -> float:
    """Pitch in mel (O'Shaughnessy's formula)."""
    return float(2595 * np.log10(1 + hertz / 700))


def hertz(mel: np.ndarray) -> np.ndarray:
    """Frequency of pitches in mel."""
    frequency: np.ndarray = 700 * (10 ** (mel / 2595) - 1)
    return frequency


def slope(features: np.ndarray) -> np.ndarray:
    """Least-squares slope per frame over two frames on either side; the end frames are repeated beyond."""
    around = np.pad(features, ((2, 2), (0, 0)), mode="edge")
    count = len(features)
    near = around[3 : 3 + count] - around[1 : 1 + count]
    far = around[4 : 4 + count] - around[:count]
    fitted: np.ndarray = (near + 2 * far) / 10
    return fitted


def read_recording(path: Path, sample_rate: int) -> Signal:
    """Samples of a 16-bit mono recording, RIFF or NIST SPHERE.

    Raises ReproError naming the file if it is damaged, compressed, of another rate, or holds nothing.
    """
    try:
        with path.open("rb") as stream:
            is_nist = stream.read(7) == b"NIST_1A"
        rate, samples = read_nist(path) if is_nist else read_riff(path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, wave.Error) as error:
        raise ReproError(f"{path} is not a readable recording ({error}); fetch it again") from error
    if rate != sample_rate:
        raise ReproError(f"{path}: expected {sample_rate} samples a second, found {rate}")
    if not len(samples):
        raise ReproError(f"{path} holds no sample; fetch it again")
    return samples.astype(np.float64)


def read_riff(path: Path) -> tuple[int, np.ndarray]:
    """Sample rate and samples of a RIFF WAVE file.

    Raises ValueError, EOFError, RuntimeError or wave.Error if it is not one.
    """
    with wave.open(str(path)) as stream:
        facts = stream.getparams()
        if (facts.nchannels, facts.sampwidth) != (1, 2):
            raise ValueError(f"expected one channel of 2 bytes, found {facts.nchannels} of {facts.sampwidth}")
        samples = np.frombuffer(stream.readframes(facts.nframes), "<i2")
    if len(samples) != facts.nframes:
        raise ValueError(f"its header counts {facts.nframes} samples, {len(samples)} follow")
    return facts.framerate, samples


def read_nist(path: Path) -> tuple[int, np.ndarray]:
    """Sample rate and samples of a NIST SPHERE file, whose header of text says how the numbers lie.

    Raises ValueError or KeyError for a header that is not one, and for compressed files (sph2pipe unpacks
    them).
    """
    content = path.read_bytes()
    size = int(content[8:16])
    fields = {}
    for line in content[16:size].decode("ascii", errors="replace").splitlines():
        parts = line.split(maxsplit=2)
        if parts == ["end_head"]:
            break
        if len(parts) == 3:
            fields[parts[0]] = parts[2]
    coding = fields.get("sample_coding", "pcm")
    if coding != "pcm":
        raise ValueError(f"sample_coding {coding}; unpack it with sph2pipe -f wav")
    if fields["sample_n_bytes"] != "2" or fields["channel_count"] != "1":
        raise ValueError(
            f"expected one channel of 2 bytes, found {fields['channel_count']} of {fields['sample_n_bytes']}"
        )
    order = {"01": "<i2", "10": ">i2"}[fields["sample_byte_format"]]
    count = int(fields["sample_count"])
    samples = np.frombuffer(content, order, offset=size) if (len(content) - size) % 2 == 0 else np.empty(0)
    if len(samples) != count:
        raise ValueError(f"its header counts {count} samples, {(len(content) - size) / 2:g} follow")
    return int(fields["sample_rate"]), samples.astype(np.int16)
