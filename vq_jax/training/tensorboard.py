"""The log of a run for TensorBoard."""

import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from vq_jax.files import AppendedFile
from vq_jax.media import wav

_PREFIX = 'events.out.tfevents.'
_NAME = re.compile(re.escape(_PREFIX) + r'(\d{10})\.')


class TensorBoard:
    """Writes an event file.

    tensorboardX makes what is in it. Its own writer is not used: that hands events to a thread through a
    queue, and when the thread has died of a full disk, whoever fills the queue waits for ever.

    Attributes:
        title: what it is called.
        failures: what its methods raise where something cannot be written.
    """

    title: ClassVar = 'TensorBoard'
    failures: ClassVar = (OSError,)

    def __init__(self, folder: Path, resume_step: int) -> None:
        """Begins a new file.

        Args:
            folder: made if it is not there.
            resume_step: TensorBoard forgets what the files before this one hold of later steps.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, and so the newest has to be the last, even if
        # the clock was set back or two were begun in one second.
        begun = [int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
        stamp = max([int(time.time()), *(second + 1 for second in begun)])
        self._file = AppendedFile(folder / f'{_PREFIX}{stamp:010d}.{socket.gethostname()}')
        self._add(Event(file_version='brain.Event:2'))
        start = SessionLog(status=SessionLog.START)
        self._add(Event(step=resume_step + 1, session_log=start))

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """See `MetricWriter.scalars`."""
        for name, value in values.items():
            self._add(Event(step=step, summary=summary.scalar(f'{split}/{name}', value)))

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text."""
        self._add(Event(step=step, summary=summary.text(name, text)))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image, uint8 [h w 3]."""
        self._add(Event(step=step, summary=summary.image(name, image, dataformats='HWC')))

    def animation(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        """Writes a GIF of a height and width as an image; TensorBoard has no summary of video."""
        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=gif)
        self._add(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)])))

    def sound(self, step: int, name: str, samples: np.ndarray, rate: float) -> None:
        """Writes a sound, int16 [n c]; tensorboardX would need another package to encode it."""
        audio = Summary.Audio(
            sample_rate=rate,
            num_channels=samples.shape[1],
            length_frames=len(samples),
            encoded_audio_string=wav.encode(samples, rate),
            content_type='audio/wav',
        )
        self._add(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, audio=audio)])))

    def sync(self) -> None:
        """Has everything on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, event: Any) -> None:
        """Adds a record as TensorFlow has them: length and content, and a checksum of each."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack('<Q', len(content))
        self._file.add(length + _checksum(length) + content + _checksum(content))


def _checksum(data: bytes) -> bytes:
    return struct.pack('<I', masked_crc32c(data))
