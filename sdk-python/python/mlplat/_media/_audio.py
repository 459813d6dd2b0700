"""Sound as WAV files."""

from __future__ import annotations

import io
import os
import wave

from .. import _arguments
from .._errors import FileError, MisuseError
from . import _arrays, _names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._spool import Item

_ENDINGS = frozenset({".wav", ".mp3", ".ogg", ".flac", ".m4a", ".opus"})
_MAX_CHANNELS = 64


def audio_items(
    run_id: str, audio: object, sample_rate: int | None, key: str, step: int | None
) -> list[Item]:
    """The file of `log_audio`."""
    name, ending = _names.split(_names.artifact_path(key, "key"), _ENDINGS)
    if isinstance(audio, (str, os.PathLike)):
        content: bytes | str = _arguments.path(audio, "audio")
        found = os.path.splitext(content)[1].lower()
        if not os.path.isfile(content):
            raise FileError(f"there is no audio file {content!r}")
        if found not in _ENDINGS or (ending and ending != found):
            raise MisuseError(
                f"{content!r} cannot be logged as {key!r}; the endings have to fit: {sorted(_ENDINGS)}"
            )
    else:
        if sample_rate is None:
            raise MisuseError("log_audio needs the sample_rate of an array, e.g. 16000")
        rate = _arguments.integer(sample_rate, "sample_rate")
        if not 1 <= rate <= 10_000_000:
            raise MisuseError(f"sample_rate is {rate}; give samples per second")
        if ending not in ("", ".wav"):
            raise MisuseError(f"an array is logged as .wav, not as {ending}")
        content, found = encoded(audio, rate), ".wav"
    if ending and step is None:
        return [(content, key)]
    at = None if step is None else _arguments.integer(step, "step")
    return [(content, _names.of_step(run_id, "audio", name, found, at))]


def encoded(audio: Any, sample_rate: int) -> bytes:
    """A WAV file of samples, or of samples x channels: floats from -1 to 1, or integers as they are."""
    numpy = _arrays.numpy("audio")
    samples = _arrays.array(audio, "audio")
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or 0 in samples.shape:
        raise MisuseError(f"audio has the shape {tuple(samples.shape)}; give samples, or samples x channels")
    if samples.shape[1] > _MAX_CHANNELS >= samples.shape[0]:
        # torchaudio has the channels in front.
        samples = samples.T
    if samples.shape[1] > _MAX_CHANNELS:
        raise MisuseError(f"audio has {samples.shape[1]} channels; the limit is {_MAX_CHANNELS}")
    if samples.dtype.kind == "f":
        clipped = numpy.clip(numpy.nan_to_num(samples.astype(numpy.float64)), -1.0, 1.0)
        samples = (clipped * 32767).round().astype("<i2")
    elif samples.dtype == numpy.uint8:
        pass
    elif samples.dtype in (numpy.int16, numpy.int32):
        samples = samples.astype(samples.dtype.newbyteorder("<"))
    else:
        raise MisuseError(
            f"audio is of type {samples.dtype}; give floats from -1 to 1, int16, int32 or uint8"
        )
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(samples.shape[1])
        sound.setsampwidth(samples.dtype.itemsize)
        sound.setframerate(sample_rate)
        sound.writeframes(numpy.ascontiguousarray(samples).tobytes())
    return file.getvalue()
