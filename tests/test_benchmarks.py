"""Benchmarks run without a peer, and say what is missing."""

import json
import os
import re

import numpy as np
import pytest

from benchmarks import hosts, input_pipeline
from tests.runs import ROOT, run
from vq_jax.config_files import find_config, get_config
from vq_jax.data import DataConfig
from vq_jax.media import wav
from vq_jax.tasks import complete_config

TINY = ['--batch_size=2', '--rounds=1', '--steps=1', '--nopeer', '--config.data.image_size=8']


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    """A script finds what lies beside it, but a module does not."""
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}{os.pathsep}{ROOT / "benchmarks"}')


def measure(config, *flags, **options):
    return run([f'--config=configs/image/{config}.py', *flags], module='benchmarks.train_step', **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, flags, dtype',
    [
        ('pixelcnn_mnist', ['--config.pixelcnn.depth=1', '--config.pixelcnn.dtype=bfloat16'], 'bfloat16'),
        ('vae_mnist', [], 'float32'),
    ],
)
def test_a_task_without_a_peer(config, flags, dtype):
    output, _ = measure(config, *TINY, *flags)
    assert f'batch 2, 8x8x1, {dtype}' in output
    assert 'ms a step' in output and 'torch' not in output
    assert re.search(r'^temporary memory of the compiled step of vq_jax: \d+ MiB$', output, re.MULTILINE)


@pytest.mark.slow
def test_diffusion():
    sizes = ['--config.dit.depth=1', '--config.dit.width=16', '--config.dit.heads=2']
    flags = [*TINY, '--config.model.backbone=dit', *sizes, '--sampling_steps=2', '--draw=2']
    output, _ = run(['--config=configs/image/ddpm_mnist.py', *flags], module='benchmarks.diffusion')
    lines = output.splitlines()
    assert lines[1].endswith('8x8x1, float32') and 'torch' not in output
    assert re.fullmatch(r'parameters: vq_jax [\d,]+', lines[2])
    assert re.fullmatch(r'training, batch 2, images/s: vq_jax [\d.e+]+', lines[3])
    assert re.fullmatch(r'training, vq_jax: \d+\.\d{3} TFLOP/s', lines[4])  # a CPU's peak is not known
    assert re.fullmatch(r'2 samples at once, 2 steps, seconds a sample: vq_jax [\d.e-]+', lines[5])


@pytest.mark.slow
def test_text(tmp_path):
    (tmp_path / 'x.txt').write_text('text ' * 100)
    sizes = ['--config.transformer.depth=1', '--config.transformer.width=8', '--config.transformer.heads=1']
    data = [f'--config.data.name=text:{tmp_path}/x.txt', '--config.data.eval_split=test']
    flags = [*sizes, *data, '--config.data.num_tokens=8', '--steps=4', '--block=2', '--nopeer']
    output, _ = run(['--config=configs/text/shakespeare.py:small', *flags], module='benchmarks.text')
    lines = output.splitlines()
    assert lines[1].endswith('x.txt, 12 pieces of 8 tokens a step') and len(lines) == 3
    assert re.fullmatch(
        r'vq_jax +[\d,]+ parameters +[\d.]+ ms a step +[\d.]+ bits per byte after 4 steps', lines[2]
    )


@pytest.mark.slow
def test_codec():
    sizes = ['--config.seanet.channels=2', '--config.seanet.strides=(10,)', '--config.residual.depth=1']
    flags = [*sizes, '--config.data.num_samples=40', '--seconds=0.02', '--rounds=1', '--nopeer']
    output, _ = run(['--config=configs/audio/codec_8k.py', *flags], module='benchmarks.codec')
    lines = output.splitlines()
    assert lines[1] == '0.02 s of sound at 8000 Hz, 16 positions, float32'
    assert re.fullmatch(r'encoder, [\d,]+ parameters, real-time factor: vq_jax [\d.]+', lines[2])
    assert re.fullmatch(r'a chunk of 1 positions, 1.2 ms of sound: encoding .* ms, decoding .* ms', lines[4])


@pytest.mark.slow
def test_rates_of_a_codec_beside_others(tmp_path, monkeypatch):
    """A stand-in for Codec 2 loses nothing but time, which is cut off; what is missing is left out."""
    commands = tmp_path / 'bin'
    commands.mkdir()
    late = 'head -c 320 /dev/zero; cat "$2"'  # 160 samples
    for name, does in (('c2enc', 'cp "$2" "$3"'), ('c2dec', f'({late}) > "$3"')):
        (commands / name).write_text(f'#!/bin/sh\n{does}\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{commands}{os.pathsep}{os.environ["PATH"]}')
    rng = np.random.default_rng(0)
    for i in range(20):
        wav.write(
            tmp_path / 'sounds' / f'{i}.wav', rng.integers(-8000, 8000, (1000, 1)).astype(np.int16), 8000
        )
    sizes = ['--config.seanet.channels=2', '--config.seanet.strides=(10,)', '--config.residual.depth=3']
    sizes += ['--config.quantizer.num_codes=16', '--config.data.num_samples=400', '--config.batch_size=2']
    data = [f'--config.data.name=folder:{tmp_path / "sounds"}', '--config.data.eval_split=train[50%:]']
    workdir, output = tmp_path / 'run', tmp_path / 'out'
    run(['--config=configs/audio/codec_8k.py', f'--workdir={workdir}', '--config.steps=1', *sizes, *data])
    flags = [f'--workdir={workdir}', f'--output={output}', '--seconds=0.3', '--pieces=2', '--codec2=3200']
    printed, _ = run([*flags, '--opus=8'], module='benchmarks.codec_rates')
    assert '2 pieces of 0.30 s at 8000 Hz' in printed
    rows = {row['coder']: row for row in json.loads((output / 'rows.json').read_text())['rows']}
    # 800 positions a second, of 4 bits for each depth.
    assert [rows[f'vq_jax {depth}']['kbps'] for depth in (1, 3)] == pytest.approx([3.2, 9.6], rel=0.01)
    assert rows['codec2 3200']['kbps'] == pytest.approx(128) and rows['codec2 3200']['mel_distance'] == 0
    assert ('opus 8' in rows) or 'opusenc is not installed, and so left out' in printed
    assert len(printed.splitlines()) >= 2 + len(rows) and (output / 'codec2_3200.wav').exists()


def test_packets_of_an_ogg_file(monkeypatch):
    """A packet of 255 bytes or more has several lengths, and may go on in the next page."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    from coders import ogg_packets

    def page(lengths, content):
        return b'OggS' + bytes(22) + bytes([len(lengths), *lengths]) + content

    first, second, third = b'a' * 3, b'b' * 600, b'c' * 255
    content = page([3, 255, 255], first + second[:510]) + page([90, 255, 0], second[510:] + third)
    assert ogg_packets(content) == [first, second, third]
    with pytest.raises(ValueError, match='no page of an Ogg file begins at byte 0'):
        ogg_packets(b'RIFF')


def test_a_peer_of_images_is_none_of_video(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import measuring

    config = complete_config(get_config(find_config('vqgan_sprites')))
    with pytest.raises(measuring.NoPeerError, match=r'without torch_vqgan.py, .*--config.data.frames=None'):
        measuring.Peer(config, np.zeros((1, 7, 64, 64, 3), np.uint8))


def test_images_of_unknown_size():
    _, errors = measure('pixelcnn_mnist', status=2)
    last = errors.splitlines()[-1]
    assert last.startswith('error: ') and last.endswith('give --config.data.image_size=NUMBER.')


def test_images_are_decoded_one_after_the_other_beside_the_pipeline(tmp_path):
    config = DataConfig(name='digits', data_dir=str(tmp_path), image_size=8)
    assert input_pipeline.plain(config, 0.01) > 0


def test_hosts_of_a_pod_read_their_shares(tmp_path):
    config = DataConfig(name='digits', data_dir=str(tmp_path), image_size=8, cache_gib=0, prefetch=0)
    (alone, _), four = hosts.measure(config, 1)['megabytes'], hosts.measure(config, 4)
    assert four['examples'] == hosts.BATCH
    least, most = four['megabytes']
    assert alone / 5 < least <= most < alone / 3


@pytest.mark.slow
def test_scaling(tmp_path):
    path, image = tmp_path / 'scaling.json', tmp_path / 'scaling.png'
    output, _ = run(
        [f'--output={path}', f'--plot={image}', '--tiny', '--minutes=0'], module='benchmarks.scaling'
    )
    measured = json.loads(path.read_text())
    assert image.read_bytes().startswith(b'\x89PNG')
    for name, (less, more) in measured['scales'].items():
        assert more['size'] > less['size'] and f'{name}: each time as large' in output
        assert more['gflop'] > less['gflop'] > 0 and more['mib'] > less['mib'] > 0


@pytest.mark.slow
def test_quantizers():
    kinds = 'vq,residual,ibq,bsq_groups,gumbel'
    output, _ = run(['--tiny', '--rounds=1', '--nopeer', f'--kinds={kinds}'], module='benchmarks.quantizers')
    lines = output.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith('{')]
    assert [row['kind'] for row in rows] == 2 * kinds.split(',')
    assert all(row['train'] > 0 and row['encode'] > 0 and row['vectors'] == 256 for row in rows)
    assert lines[-len(rows)].startswith('| vq | 16, 64 | 256 | ') and 'torch' not in lines[-1]


@pytest.mark.slow
def test_start_up():
    output, _ = run(['--config=tests/digits.py', '--rounds=1', '--cold=0'], module='benchmarks.start_up')
    _, *lines = output.splitlines()
    assert [line[:30].strip() for line in lines][-2:] == ['vq_jax.train --help', 'first step, warm']
    assert all(re.search(r' \d+\.\d\d s \(.*\), of the processor ', line) for line in lines)
