"""The log of a run, written and resumed."""

import errno
import json
import os
import pathlib
import struct
import sys
import tempfile
import time
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from vq_jax.errors import UserError
from vq_jax.media import Animation, Sheet, Sound, wav
from vq_jax.training.writers import MetricWriter


def lines(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def write(workdir, steps, *, resume_step=0):
    writer = MetricWriter(workdir, resume_step=resume_step)
    for step in steps:
        writer.scalars(step, 'train', {'loss': float(np.float32(1 / step))})
        if step % 3 == 0:
            writer.warning(step, f'step {step} is divisible by three')
    writer.close()


def test_numbers_come_back_exactly(tmp_path):
    write(tmp_path, [3])
    assert np.float32(lines(tmp_path)[0]['loss']) == np.float32(1 / 3)


def test_a_resumed_log_equals_one_never_interrupted(tmp_path):
    write(tmp_path / 'whole', range(1, 9))
    write(tmp_path / 'cut', range(1, 7))
    with (tmp_path / 'cut' / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 7, "spl')  # killed here
    write(tmp_path / 'cut', range(5, 9), resume_step=4)
    assert lines(tmp_path / 'cut') == lines(tmp_path / 'whole')


def test_a_damaged_line_is_told(tmp_path):
    write(tmp_path, [1, 2])
    path = tmp_path / 'metrics.jsonl'
    before = path.read_text().replace('{"step": 2', '{"step": , 2')
    path.write_text(before)
    with pytest.raises(UserError, match=r'line 2 of .*metrics\.jsonl is not valid JSON .*; mend it'):
        write(tmp_path, [3], resume_step=2)
    assert path.read_text() == before


def test_a_pipe_in_place_of_the_log_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'metrics.jsonl')
    with pytest.raises(UserError, match='not a regular file'):
        MetricWriter(tmp_path, resume_step=2)


def test_what_is_not_finite_is_valid_json(tmp_path):
    writer = MetricWriter(tmp_path, resume_step=0)
    writer.scalars(1, 'train', {'loss': float('nan'), 'norm': float('inf'), 'rate': 0.5})
    writer.close()
    assert lines(tmp_path) == [{'step': 1, 'split': 'train', 'loss': None, 'norm': None, 'rate': 0.5}]


def test_warnings_are_lines_of_the_log(tmp_path):
    write(tmp_path, [2, 3])
    text = 'step 3 is divisible by three'
    assert lines(tmp_path)[-1] == {'step': 3, 'split': 'warning', 'text': text}
    *_, last = events(tmp_path)
    assert (last.step, last.summary.value[0].tensor.string_val[0]) == (3, text.encode())


def test_images(tmp_path):
    image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    writer = MetricWriter(tmp_path, resume_step=0)
    writer.media(12, 'samples', Sheet(image))
    writer.close()
    read = np.asarray(Image.open(tmp_path / 'images' / 'samples_0000012.png'))
    np.testing.assert_array_equal(read, image)
    assert [p.name for p in (tmp_path / 'images').iterdir()] == ['samples_0000012.png']


def test_sounds(tmp_path):
    recordings = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 40, 1), np.int16)
    writer = MetricWriter(tmp_path, resume_step=0)
    for step in (10, 20):
        writer.media(step, 'samples', Sound(recordings, 8000))
    writer.close()
    path = tmp_path / 'sounds' / 'samples_0000010.wav'
    samples, rate = wav.read(path.read_bytes())
    assert rate == 8000
    np.testing.assert_array_equal(samples[:40], recordings[0])
    (audio,) = (event.summary.value[0].audio for event in events(tmp_path) if event.step == 10)
    assert audio.encoded_audio_string == path.read_bytes()
    assert (audio.sample_rate, audio.num_channels, audio.length_frames) == (8000, 1, len(samples))
    MetricWriter(tmp_path, resume_step=10).close()
    assert [path.name for path in (tmp_path / 'sounds').iterdir()] == ['samples_0000010.wav']


def test_animations(tmp_path):
    moving = Animation(tuple(Sheet(np.full((4, 6, 3), 60 * t, np.uint8)) for t in range(3)), 4)
    writer = MetricWriter(tmp_path, resume_step=0)
    for step in (10, 20):
        writer.media(step, 'samples_video', moving)
    writer.close()
    path = tmp_path / 'animations' / 'samples_video_0000010.gif'
    with Image.open(path) as image:
        for t in range(3):
            image.seek(t)
            np.testing.assert_array_equal(image.convert('RGB'), moving.sheets[t].image)
    (image,) = (event.summary.value[0].image for event in events(tmp_path) if event.step == 10)
    assert image.encoded_image_string == path.read_bytes() and (image.height, image.width) == (4, 6)
    MetricWriter(tmp_path, resume_step=10).close()
    assert [path.name for path in (tmp_path / 'animations').iterdir()] == ['samples_video_0000010.gif']


def events(workdir):
    """All events of a run, in the order in which TensorBoard reads them."""
    for path in sorted((workdir / 'tensorboard').iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack('<Q', data[at : at + 8])
            assert data[at + 8 : at + 12] == struct.pack('<I', masked_crc32c(data[at : at + 8]))
            content = data[at + 12 : at + 12 + length]
            assert data[at + 12 + length : at + 16 + length] == struct.pack('<I', masked_crc32c(content))
            event = Event()
            event.ParseFromString(content)
            yield event
            at += 16 + length


def shown(workdir, tag='train/loss'):
    """The points that TensorBoard shows: a START takes away what was written before of its step and later."""
    points = []
    for event in events(workdir):
        if event.HasField('session_log') and event.session_log.status == SessionLog.START:
            points = [point for point in points if point[0] < event.step]
        points += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
    return points


def test_tensorboard_holds_the_numbers(tmp_path):
    write(tmp_path, [1, 2])
    assert shown(tmp_path) == [(1, 1.0), (2, 0.5)]
    assert next(iter(events(tmp_path))).file_version == 'brain.Event:2'


@pytest.mark.parametrize('resume_step', [0, 2, 5])
def test_tensorboard_shows_each_step_once_after_a_kill(tmp_path, resume_step):
    killed = MetricWriter(tmp_path, resume_step=0)
    for step in range(1, 6):
        killed.scalars(step, 'train', {'loss': 1.0})
    for _ in range(2):  # the first is killed before it wrote anything, in the same second
        resumed = MetricWriter(tmp_path, resume_step=resume_step)
    for step in range(resume_step + 1, 8):
        resumed.scalars(step, 'train', {'loss': 2.0})
    steps = range(1, 8)
    assert shown(tmp_path) == [(step, 1.0 if step <= resume_step else 2.0) for step in steps]
    assert [(line['step'], line['loss']) for line in lines(tmp_path)] == shown(tmp_path)


def test_tensorboard_reads_the_newest_file_last_though_the_clock_was_set_back(tmp_path, monkeypatch):
    for now, steps in ((2_000_000_000, (1, 2)), (1_000_000_000, (2, 3))):
        monkeypatch.setattr(time, 'time', lambda now=now: now)
        write(tmp_path, steps, resume_step=steps[0] - 1)
    assert [step for step, _ in shown(tmp_path)] == [1, 2, 3]


@pytest.fixture
def disk(monkeypatch):
    """How many bytes can be written to growing files; and there are no new ones if it is full."""
    room = types.SimpleNamespace(left=10**9)
    os_write, mkstemp = os.write, tempfile.mkstemp

    def write(descriptor, data):
        if room.left <= 0:
            raise OSError(errno.ENOSPC, 'No space left on device')
        written = os_write(descriptor, bytes(data)[: room.left])
        room.left -= written
        return written

    def make(*arguments, **options):
        if room.left <= 0:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return mkstemp(*arguments, **options)

    monkeypatch.setattr(os, 'write', write)
    monkeypatch.setattr(tempfile, 'mkstemp', make)
    return room


def test_a_full_disk_holds_up_nothing_and_is_told_once(tmp_path, disk, caplog):
    """And lines of the log come when there is room again; what was written is whole."""
    writer = MetricWriter(tmp_path, resume_step=0)
    writer.scalars(1, 'train', {'loss': 1.0})
    disk.left = 20  # in the middle of a line
    for step in range(2, 40):  # more than any queue takes
        writer.scalars(step, 'train', {'loss': float(step)})
        disk.left = 0
        writer.media(step, 'samples', Sheet(np.zeros((2, 2, 3), np.uint8)))
        writer.sync()
    assert lines(tmp_path) == [{'step': 1, 'split': 'train', 'loss': 1.0}]
    assert list((tmp_path / 'images').iterdir()) == []
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3 and all('No space left on device' in text for text in told)
    assert sorted(text.split(' cannot')[0].split(' (')[0] for text in told) == [
        f'Cannot write {tmp_path / "images" / "samples_0000002.png"}',
        f'Cannot write {tmp_path / "metrics.jsonl"}',
        'TensorBoard',
    ]
    with pytest.raises(UserError, match=r'the last 38 lines of .*metrics\.jsonl could not be written'):
        writer.close()


def test_lines_that_were_kept_are_written_when_there_is_room(tmp_path, disk):
    writer = MetricWriter(tmp_path, resume_step=0)
    for step, room in enumerate((10**9, 5, 0, 10**9), 1):
        disk.left = room
        writer.scalars(step, 'train', {'loss': float(step)})
    writer.close()
    assert [line['step'] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_a_log_that_cannot_be_begun_is_told_in_a_sentence(tmp_path, disk):
    write(tmp_path, [1, 2])
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    disk.left = 0
    with pytest.raises(UserError, match=r'Cannot write .*metrics\.jsonl \(No space left on device\)'):
        MetricWriter(tmp_path, resume_step=1)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_images_of_later_steps_go_where_a_run_is_resumed(tmp_path):
    for resume_step, steps in ((0, (10, 20, 12_345_678)), (10, (30,))):
        writer = MetricWriter(tmp_path, resume_step=resume_step)
        for step in steps:
            writer.media(step, 'my_samples', Sheet(np.zeros((2, 2, 3), np.uint8)))
        writer.close()
        (tmp_path / 'images' / 'mine_20.png').touch()
    names = sorted(path.name for path in (tmp_path / 'images').iterdir())
    assert names == ['mine_20.png', 'my_samples_0000010.png', 'my_samples_0000030.png']


def test_an_inactive_writer_writes_nothing(tmp_path):
    writer = MetricWriter(tmp_path / 'run', resume_step=0, active=False)
    writer.scalars(1, 'train', {'loss': 1.0})
    writer.media(1, 'samples', Sheet(np.zeros((2, 2, 3), np.uint8)))
    writer.warning(1, 'too much')
    writer.close()
    assert not (tmp_path / 'run').exists()


class Service(types.ModuleType):
    """Weights & Biases, as far as it is used: one run, whose steps can only grow.

    Attributes:
        rewinds: whether an account may take steps back.
        rows: what was logged, by step.
        broken: whether it answers nothing any longer.
    """

    def __init__(self, *, rewinds):
        super().__init__('wandb')
        self.__spec__ = types.SimpleNamespace()
        self.rewinds, self.rows, self.broken, self.inits, self.ignored = rewinds, {}, False, [], []
        self.id, self.finished = 'abc', 0
        self.Image = lambda image: image.shape
        self.Video = lambda path, format: (pathlib.Path(path).read_bytes(), format)
        self.Audio = lambda path, sample_rate: (wav.read(pathlib.Path(path).read_bytes()), sample_rate)

    def init(self, *, resume_from=None, id=None, resume=None, project, config, dir):
        self._check()
        self.inits.append((project, id, resume, resume_from))
        if resume_from is not None:
            if not self.rewinds:
                raise RuntimeError('rewinding is not enabled for this account')
            name, step = resume_from.split('?_step=')
            assert name == self.id
            self.rows = {s: row for s, row in self.rows.items() if s <= int(step)}
        self.starting_step = max(self.rows, default=-1) + 1
        return self

    def log(self, values, step):
        self._check()
        if step < max(self.rows, default=0):
            self.ignored.append(step)
        else:
            self.rows.setdefault(step, {}).update(values)

    def finish(self):
        self._check()
        self.finished += 1

    def _check(self):
        if self.broken:
            raise ConnectionError('no answer')


@pytest.fixture
def service(monkeypatch, request):
    fake = Service(rewinds=getattr(request, 'param', False))
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    return fake


@pytest.mark.parametrize('service', [False, True], indirect=True)
def test_weights_and_biases_has_each_step_once_after_a_kill(tmp_path, service):
    for resume_step, last in ((0, 5), (2, 8)):
        writer = MetricWriter(tmp_path, resume_step=resume_step, wandb_project='codes')
        for step in range(resume_step + 1, last):
            writer.scalars(step, 'train', {'loss': float(step)})
            writer.warning(step, 'too much')
            writer.media(step, 'samples', Sheet(np.zeros((2, 2, 3), np.uint8)))
    writer.close()
    expected = {'train/loss': 0.0, 'warning': 'too much', 'samples': (2, 2, 3)}
    assert service.rows == {step: {**expected, 'train/loss': float(step)} for step in range(1, 8)}
    assert not service.ignored and service.finished == 1
    resumed = [('codes', None, None, 'abc?_step=2')]
    if not service.rewinds:
        resumed.append(('codes', 'abc', 'allow', None))
    assert service.inits == [('codes', None, None, None), *resumed]


def test_weights_and_biases_is_given_sounds(tmp_path, service):
    sound = Sound(np.random.default_rng(0).integers(-(2**15), 2**15, (2, 40, 1), np.int16), 8000.4)
    with MetricWriter(tmp_path, resume_step=0, wandb_project='codes') as writer:
        writer.media(3, 'samples', sound)
    (samples, in_file), rate = service.rows[3]['samples']
    assert in_file == rate == 8000
    np.testing.assert_array_equal(samples, sound.joined())


def test_weights_and_biases_is_given_animations(tmp_path, service):
    moving = Animation(tuple(Sheet(np.full((4, 6, 3), 60 * t, np.uint8)) for t in range(3)), 4)
    with MetricWriter(tmp_path, resume_step=0, wandb_project='codes') as writer:
        writer.media(3, 'samples_video', moving)
    file = tmp_path / 'animations' / 'samples_video_0000003.gif'
    assert service.rows[3] == {'samples_video': (file.read_bytes(), 'gif')}


@pytest.mark.parametrize('when', ['at the start', 'later'])
def test_weights_and_biases_that_fails_ends_nothing(tmp_path, service, caplog, when):
    service.broken = when == 'at the start'
    writer = MetricWriter(tmp_path, resume_step=0, wandb_project='codes')
    service.broken = True
    for step in (1, 2, 3):
        writer.scalars(step, 'train', {'loss': 1.0})
    writer.close()
    assert [line['step'] for line in lines(tmp_path)] == [1, 2, 3]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        'Weights & Biases cannot be written (ConnectionError: no answer); the run goes on without it.'
    )


def test_a_damaged_name_of_a_weights_and_biases_run_is_told(tmp_path, service):
    (tmp_path / 'wandb_id.txt').write_text('../other?_step=0')
    with pytest.raises(UserError, match=r'wandb_id\.txt does not hold the name .* remove it'):
        MetricWriter(tmp_path, resume_step=0, wandb_project='codes')


def test_weights_and_biases_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install wandb'):
        MetricWriter(tmp_path, resume_step=0, wandb_project='codes')
