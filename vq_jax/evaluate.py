"""Evaluates a trained run: `python -m vq_jax.evaluate --workdir DIR [--split test] [--output FILE]`.

With `--features`, what the run makes (samples, or reconstructions) is compared with examples of the split in
the features of a frozen network: `inception` is the one of FID and the Inception score, `i3d` that of FVD, a
directory a run of the task classifier. FID is of all images. KID is the unbiased estimate with the cubic
kernel over all pairs of at most 50,000 evenly spread images, not a mean over subsets of 1,000; of the same
images precision and recall ask for the third neighbour, density and coverage for the fifth. With `--video`,
what is measured are frames that the run rebuilds, or predicts of others that it is given. With `--retrieval`,
how often a dual encoder finds the text of which a sample was made among 100.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from vq_jax import cli, run_flags
from vq_jax.errors import UserError

flags.adopt_module_key_flags(run_flags)  # for --help
_SPLIT = flags.DEFINE_string('split', None, "A split of its data; the config's eval_split if none.")
_OUTPUT = flags.DEFINE_string('output', None, 'A .json file to write the metrics to.')
_FEATURES = flags.DEFINE_string(
    'features',
    None,
    'inception (weights are found or downloaded), inception:FILE, i3d:FILE (for videos), or the folder of a '
    'run of a classifier.',
)
_RESIZE = flags.DEFINE_enum(
    'resize',
    None,
    ['bilinear', 'clean'],
    'With --features=inception: how images become 299x299, as in pytorch-fid (the default) or clean-fid.',
)
_LPIPS = flags.DEFINE_list(
    'lpips',
    None,
    'With --features or --video, measure with LPIPS too: download, or files of VGG-16 and of the heads, '
    'separated by a comma.',
)
_SOUND = flags.DEFINE_bool(
    'sound', False, 'Measure how well, and at what bit rate and speed, sounds are coded; PESQ and STOI too.'
)
_DEPTHS = flags.DEFINE_integer(
    'depths', None, 'With --sound: use the first so many codes of each position alone.', lower_bound=1
)
_VIDEO = flags.DEFINE_bool('video', False, 'Measure videos that are rebuilt or predicted frame by frame.')
_GIVEN = flags.DEFINE_list(
    'given',
    None,
    'With --video, of a prior or a diffusion model: how many of the first frames are given, such as 4, or of '
    'the first and of the last, such as 1,1.',
)
_RETRIEVAL = flags.DEFINE_string(
    'retrieval',
    None,
    'The folder of a run of a dual encoder: measure how often it finds the text of samples, and of real '
    'examples, among 100.',
)
_NUM = flags.DEFINE_integer(
    'num',
    10_000,
    'With --features or --retrieval: how many samples to make; reconstructions are of the whole split.',
)
_SEED = flags.DEFINE_integer(
    'seed', 0, 'With --features, --video or --retrieval: the same seed gives the same samples.'
)
_REFERENCE = flags.DEFINE_string(
    'reference', None, 'With --features: an .npz file of reference statistics, written if it is not there.'
)
_REAL = flags.DEFINE_string(
    'real', None, 'With --features: another split, whose examples are compared as if they were samples.'
)
# Which flags say how an evaluation is made, by the flags that ask for it.
_ONLY_WITH = {
    **dict.fromkeys(('resize', 'reference', 'real'), ('features',)),
    'lpips': ('features', 'video'),
    'num': ('features', 'retrieval'),
    'seed': ('features', 'video', 'retrieval'),
    'depths': ('sound',),
    'given': ('video',),
}


def main() -> None:
    """Prints a table of metrics, and writes them to a file if one is named."""
    cli.use_compilation_cache()
    ways = {
        'features': _FEATURES.value,
        'sound': _SOUND.value,
        'video': _VIDEO.value,
        'retrieval': _RETRIEVAL.value,
    }
    asked = [name for name, value in ways.items() if value]
    for flag, of in _ONLY_WITH.items():
        if flags.FLAGS[flag].present and not set(of) & set(asked):
            others = ' or '.join(f'--{name}' for name in of)
            raise UserError(f'--{flag} is given without {others}; give both, or leave it out.')
    if len(asked) > 1:
        raise UserError(f'--{asked[0]} and --{asked[1]} are two evaluations; give one of them.')
    if _OUTPUT.value:
        cli.check_output(_OUTPUT, '.json')
    if _SOUND.value:
        _measure_sound()
    elif _VIDEO.value:
        _measure_video()
    elif _RETRIEVAL.value:
        _retrieve()
    elif _FEATURES.value:
        _compare()
    else:
        _evaluate()


def _evaluate() -> None:
    from vq_jax.evaluators.features import preprocessing
    from vq_jax.run import Run
    from vq_jax.tasks.classes import shown
    from vq_jax.tasks.conversion import origin_in_words
    from vq_jax.tasks.restore import restore
    from vq_jax.training.progress import make_console, print_table

    restored = restore(**run_flags.opened())
    run = Run(restored)
    split = _SPLIT.value or run.config.data.eval_split
    metrics = run.evaluate(split, progress=True).metrics
    console = make_console()
    print_table(console, f'{run.config.data.name} {split}, step {run.step:,}', metrics)
    if warning := run.task.watch_evaluation(metrics):
        console.print(f'warning: {warning}', soft_wrap=True)
    if run.task.classes_read and run.class_names:
        console.print(f'classes: {shown(run.class_names)}', soft_wrap=True)
    if restored.origin:
        console.print(f'weights: {origin_in_words(restored.origin)}', soft_wrap=True)
    made = {
        'dataset': run.config.data.name,
        'split': split,
        'step': run.step,
        'class_names': run.class_names,
        'preprocessing': preprocessing(run.config.data, run.spec.kind),
        'run': restored.identity(),
        'origin': restored.origin,
    }
    _write(console, {**made, **metrics})


def _measure_sound() -> None:
    from vq_jax.run import load
    from vq_jax.training.progress import make_console, print_table

    run = load(**run_flags.opened())
    record = run.measure_sound(_SPLIT.value, depths=_DEPTHS.value, progress=True)
    console = make_console()
    of_depths = f', the first {record["depths"]} codes of each position' if record['depths'] else ''
    title = (
        f'{record["sounds"]:,} sounds of {record["dataset"]} {record["split"]}, step {run.step:,}{of_depths}'
    )
    print_table(console, title, record['metrics'])
    for name, number in record['without_score'].items():
        if number:
            console.print(f'{number:,} of them have no {name}', soft_wrap=True)
    _write(console, record)


def _measure_video() -> None:
    from vq_jax.run import load
    from vq_jax.tasks.autoencoder import AutoencoderTask
    from vq_jax.training.progress import make_console, print_curves

    given = _GIVEN.value and tuple(map(cli.literal, _GIVEN.value))
    run = load(**run_flags.opened())
    _check_seed(not isinstance(run.task, AutoencoderTask))
    record = run.measure_video(_SPLIT.value, given=given, seed=_SEED.value, lpips=_lpips(), progress=True)
    console = make_console()
    of = f'{record["videos"]:,} videos of {record["dataset"]} {record["split"]}, step {run.step:,}'
    for kind in ('reconstructions', 'predictions', 'interpolations', 'copies', 'blends'):
        if kind in record:
            print_curves(console, f'{kind}: {of}', 'frame', record['frames'], record[kind]['curves'])
    _write(console, record)


def _retrieve() -> None:
    from vq_jax.run import load
    from vq_jax.training.progress import make_console, print_table

    run = load(**run_flags.opened())
    record = run.retrieve(_RETRIEVAL.value, _SPLIT.value, _NUM.value, _SEED.value)
    console = make_console()
    kinds = {
        'samples': f'samples of {run.name}, step {run.step:,}',
        'real': f'{run.spec.plural} of {record["dataset"]} {record["split"]}',
        'shuffled': f'{run.spec.plural} of {record["dataset"]} {record["split"]} with texts of others',
    }
    for kind, what in kinds.items():
        if kind in record:
            title = (
                f'{record["examples"]:,} {what}: the text among {record["candidates"]}, by '
                f'{_RETRIEVAL.value} ({record["retrieval"]["checksum"][:12]})'
            )
            print_table(console, title, record[kind])
    _write(console, record)


def _check_seed(sampled: bool) -> None:
    """Raises `UserError` if a seed is given, and nothing is sampled."""
    if _SEED.present and not sampled:
        raise UserError('--seed changes nothing here, where nothing is sampled; leave it out.')


def _lpips() -> list[str] | None:
    """The files of LPIPS; none of them for the published ones."""
    return [] if _LPIPS.value == ['download'] else _LPIPS.value


def _compare() -> None:
    from vq_jax.run import load
    from vq_jax.tasks.task import Samples
    from vq_jax.training.progress import make_console, print_table

    reference = Path(_REFERENCE.value) if _REFERENCE.value else None
    if reference and not reference.is_file():  # else it is only read
        cli.check_output(_REFERENCE, '.npz')
    run = load(**run_flags.opened())
    _check_seed(isinstance(run.task, Samples))
    record = run.compare(
        _FEATURES.value,
        _SPLIT.value,
        _NUM.value,
        _SEED.value,
        resize=_RESIZE.value,
        reference=reference,
        lpips=_lpips(),
        real=_REAL.value,
    )
    console = make_console()
    of, network = record['reference'], record['features']
    resize = f'{network["resize"]} resize, ' if 'resize' in network else ''
    kinds = {kind: f'{kind}, step {run.step:,}' for kind in ('samples', 'reconstructions', 'conversions')}
    for kind, what in {**kinds, 'real': f'{run.spec.plural} of {_REAL.value}'}.items():
        if kind in record:
            title = (
                f'{record[kind]["images"]:,} {what}, against {of["images"]:,} '
                f'{run.spec.plural} of {of["dataset"]} {of["split"]}, in features of the {network["kind"]} '
                f'({resize}{network["checksum"][:12]})'
            )
            print_table(console, title, record[kind]['metrics'])
    _write(console, record)


def _write(console: Any, record: dict[str, Any]) -> None:
    if _OUTPUT.value:
        cli.write_output(Path(_OUTPUT.value), json.dumps(record, indent=2) + '\n', 'the metrics')
        console.print(f'written to {_OUTPUT.value}', soft_wrap=True)


if __name__ == '__main__':
    cli.main(
        main,
        required=('workdir',),
        save_memory='evaluate fewer images at once, with a smaller N in --override=batch_size=N',
    )
