"""How a trained codec sounds at several bit rates, beside Opus and Codec 2 on the same recordings.

    python benchmarks/codec_rates.py --workdir runs/codec_8k [--output out]

The recordings of a split are joined, one after the other, and cut into pieces of `--seconds`: coders of
telephony and the models of listeners are made for sentences. One model is decoded from all codes of each
position, from the first half of them, the first quarter and so on, or from as many as `--depths` says.
Rates are of the bytes that were made: of ours, codes packed without gaps; of Opus,
its packets, without the pages of the Ogg file around them, which the last column has; of Codec 2, the
whole file, which has nothing else. Speed is seconds of sound that are encoded and decoded in a second
of the processor, on whatever cores, one piece after the other; of the others with starting their commands
and with their files. On accelerators, ours is by the clock.

Opus is `opusenc` and `opusdec` (Debian: opus-tools), Codec 2, for 8,000 samples a second alone, `c2enc` and
`c2dec` (codec2). What is not installed is left out, which a line says.
"""

import dataclasses
import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from coders import Coded, codec2, opus
from rows import LeftOutError

import vq_jax
from vq_jax import cli, run_flags
from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.errors import UserError
from vq_jax.evaluators.sound import listeners, mono
from vq_jax.media import wav
from vq_jax.ops.metrics import sound_metrics
from vq_jax.training.config import build
from vq_jax.training.parallel import this_process

SPLIT = flags.DEFINE_string('split', None, "Of its data set, instead of the config's eval_split.")
DEPTHS = flags.DEFINE_list(
    'depths', None, 'Codes of a position, such as 1,2,4; by default all, half of these ...'
)
OPUS = flags.DEFINE_list('opus', ['6', '8', '12', '16'], 'Its rates in kbit/s.')
CODEC2 = flags.DEFINE_list('codec2', ['700C', '1200', '1600', '2400', '3200'], 'Its modes.')
SECONDS = flags.DEFINE_float('seconds', 8.0, 'Of a piece.')
PIECES = flags.DEFINE_integer('pieces', None, 'At most so many pieces.')
OUTPUT = flags.DEFINE_string(
    'output', None, 'A folder for the table, the figures and the sound of the first piece.'
)


def main() -> None:
    run = vq_jax.load(**run_flags.opened())
    vocabularies = getattr(run.task, 'vocabularies', ())
    if run.spec.kind != 'audio' or run.spec.rate is None or run.spec.channels != 1 or len(vocabularies) != 1:
        raise UserError(f'{run.name} is no run that codes mono sound of a known rate at one scale; give one.')
    split = SPLIT.value or run.config.data.eval_split
    pieces = joined(run, split, SECONDS.value, PIECES.value)
    n, t, _ = pieces.shape
    seconds = n * t / run.spec.rate
    heard = listeners(run.spec.rate)
    device = jax.devices()[0].device_kind
    about = (
        f'{run.config.data.name}, {split}: {n} pieces of {t / run.spec.rate:.2f} s at {run.spec.rate:g} Hz; '
        f'step {run.step:,} of {run.name}; {device}, jax {jax.__version__}'
    )
    print(about, flush=True)
    rows, sounds = [], {'original': pieces[0]}
    for what in _wanted(run, vocabularies[0]):
        try:
            coded = what(pieces)
        except LeftOutError as error:
            print(error, flush=True)
            continue
        rows.append(_row(coded, pieces, run.spec.rate, seconds, heard))
        sounds[coded.coder] = coded.sounds[0]
    table = _table(rows, tuple(heard))
    print(table)
    if OUTPUT.value:
        folder = Path(OUTPUT.value)
        for name, sound in sounds.items():
            wav.write(folder / f'{name.replace(" ", "_")}.wav', sound, run.spec.rate)
        (folder / 'table.md').write_text(f'{about}\n\n{table}\n')
        (folder / 'rows.json').write_text(json.dumps({'about': about, 'rows': rows}, indent=1) + '\n')


def joined(run: vq_jax.Run, split: str, seconds: float, most: int | None) -> np.ndarray:
    """Whole recordings of a split one after the other, without silence that was added to their ends.

    Args:
        run: whose data set it is.
        split: of it.
        seconds: of each piece, rounded down to whole positions of the codec.
        most: how many pieces at most; None for all.

    Returns:
        int16 [n t 1]; what is left over is left out.

    Raises:
        UserError: if all recordings together are shorter than a piece.
    """
    hop = math.prod(run.task.factors)
    length = max(1, int(seconds * run.spec.rate / hop)) * hop
    config = dataclasses.replace(
        build(DataConfig, run.config.data, 'data'), random_crop=False, whole_recordings=True
    )
    dataset = open_dataset(config, split)
    found, there = [], 0
    for batch in eval_batches(dataset, batch_size=run.config.batch_size, **this_process(), pad=True):
        for sound in batch['x'][batch['mask']]:
            not_silent = np.flatnonzero(sound.any(axis=1))
            found.append(sound[: not_silent[-1] + 1 if len(not_silent) else 0])
            there += len(found[-1])
        if most and there >= most * length:
            break
    n = min(there // length, most or there)
    if not n:
        raise UserError(
            f'the recordings of {split} have {there / run.spec.rate:.1f} s together; give fewer --seconds.'
        )
    return np.concatenate(found)[: n * length].reshape(n, length, 1)


def neural(run: vq_jax.Run, pieces: np.ndarray, depths: int, vocabulary: tuple[int, ...]) -> Coded:
    """What a run makes of pieces int16 [n t 1], with the first so many codes of each position."""
    clock = time.process_time if jax.default_backend() == 'cpu' else time.perf_counter

    def rebuilt(piece: np.ndarray) -> tuple[np.ndarray, int]:
        codes = run.encode(piece[None])
        positions = codes.shape[1]
        return np.asarray(run.decode(codes, depths=None if len(vocabulary) == 1 else depths))[0], positions

    rebuilt(pieces[0])  # compiled
    started = clock()
    sounds, positions = zip(*map(rebuilt, pieces), strict=True)
    passed = clock() - started
    bits = sum(map(math.log2, vocabulary[:depths]))
    size = sum(math.ceil(count * bits / 8) for count in positions)
    return Coded(f'vq_jax {depths}', np.stack(sounds), size, None, passed)


def _wanted(run, vocabulary):
    """A call for each row."""
    rate, whole = run.spec.rate, len(vocabulary)
    depths = [int(depth) for depth in DEPTHS.value] if DEPTHS.value else []
    while not DEPTHS.value and whole:
        depths.append(whole)
        whole = whole // 2 if whole // 2 in run.task.decodable[0] else 0
    unknown = [depth for depth in depths if depth not in run.task.decodable[0]]
    if unknown:
        raise UserError(
            f'--depths has {unknown[0]}, and this model decodes {run.task.decodable[0]}; give these.'
        )
    return [
        *(lambda x, d=depth: neural(run, x, d, vocabulary) for depth in sorted(depths)),
        *(lambda x, kbps=kbps: opus(x, rate, kbps) for kbps in OPUS.value),
        *(lambda x, mode=mode: codec2(x, rate, mode) for mode in CODEC2.value),
    ]


def _row(coded, pieces, rate, seconds, heard):
    """Figures of a coder: means over the pieces."""
    measured = sound_metrics(jnp.asarray(coded.sounds), jnp.asarray(pieces), rate)
    values = {name: float(jnp.mean(measured[name])) for name in ('mel_distance', 'si_sdr')}
    for name, metric in heard.items():
        scores = [metric(mono(x), mono(y)) for x, y in zip(pieces, coded.sounds, strict=True)]
        scores = [score for score in scores if score is not None]
        values[name] = float(np.mean(scores)) if scores else None
    kbps = 8 / 1000 / seconds
    return {
        'coder': coded.coder,
        'kbps': kbps * coded.size,
        **values,
        'speed': seconds / coded.seconds,
        'file_kbps': coded.file_size and kbps * coded.file_size,
    }


def _table(rows, heard):
    """Markdown."""
    digits = {
        'kbps': 2,
        'mel_distance': 3,
        'si_sdr': 1,
        **dict.fromkeys(heard, 3),
        'speed': 1,
        'file_kbps': 2,
    }
    names = {'kbps': 'kbit/s', 'mel_distance': 'mel distance', 'si_sdr': 'SI-SDR, dB', 'stoi': 'STOI'}
    names |= {'pesq_nb': 'PESQ-NB', 'pesq_wb': 'PESQ-WB', 'file_kbps': 'kbit/s of the file'}
    head = ['coder', *(names.get(name, name) for name in digits)]
    lines = ['| ' + ' | '.join(head) + ' |', '| ' + ' | '.join(['---'] * len(head)) + ' |']
    for row in rows:
        cells = ['' if row[name] is None else f'{row[name]:.{places}f}' for name, places in digits.items()]
        lines.append('| ' + ' | '.join([row['coder'], *cells]) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    cli.main(main, required=('workdir',))
