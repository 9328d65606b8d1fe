"""Videos for tests, made by PyAV."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image


def frames(n, height=32, width=48):
    """uint8 [n h w 3]; each frame is five levels brighter than the one before, and a square moves."""
    made = (
        np.full((n, height, width, 3), 40, np.uint8) + (5 * np.arange(n, dtype=np.uint8))[:, None, None, None]
    )
    for t in range(n):
        made[t, 8:16, 2 * t % (width - 8) : 2 * t % (width - 8) + 8] = (250, 60, 0)
    return made


def coded(images, codec='libx264', form='mp4', rate=24, pixels='yuv420p', **options):
    """The content of a file of video, with a key frame in eight."""
    av = pytest.importorskip('av', reason="pip install 'vq_jax[video]'")
    options = {'crf': '10', 'g': '8', 'sc_threshold': '0', **options}
    file = io.BytesIO()
    with av.open(file, 'w', format=form) as container:
        stream = container.add_stream(codec, Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt, stream.options = pixels, options
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(content):
    """All frames of a file of video, uint8 [t h w 3], one after the other."""
    import av

    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])


def animated(images, form='gif', durations=100):
    """The content of an animated GIF or PNG of grey images, uint8 [t h w]."""
    first, *rest = [Image.fromarray(image) for image in images]
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=rest, duration=durations)
    return file.getvalue()
