"""The codes of a whole data set, written once, with what they are codes of."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vq_jax.data import CodeDataset, DataConfig, eval_batches, open_dataset
from vq_jax.data.sources.codes import PREFIX, CodeFacts, missing_shards, write_facts, write_shard
from vq_jax.errors import UserError
from vq_jax.extensions import allowing
from vq_jax.tasks.codec import TokenizerConfig, make_codec
from vq_jax.tasks.restore import config_of, overridden
from vq_jax.training.bucket_runs import local_run
from vq_jax.training.config import build, to_json
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.progress import track
from vq_jax.training.run_dir import read_data_facts


def write_codes(
    workdir: str | Path,
    output: str | Path,
    *,
    splits: Sequence[str] | None = None,
    step: int | None = None,
    batch_size: int = 64,
    shard_batches: int = 256,
    overrides: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> dict[str, int]:
    """Writes the codes of a data set that are not there yet.

    Images are cropped as in evaluation, without random crops and flips.

    Args:
        workdir: a run of the task vqvae or vqgan.
        output: the folder to write, see `vq_jax.data.sources.codes`.
        splits: of the run's data set; None takes those that it was trained and evaluated on.
        step: the checkpoint of the run; None is its newest.
        batch_size: examples that are encoded at once, over all devices.
        shard_batches: batches whose codes go into one file.
        overrides: other values for keys of the sections 'data' and 'parallel' of the run's config, such as
            `{'data.name': 'imagenette'}`.
        allow: as for `vq_jax.load`.

    Returns:
        How many examples have codes, by split. Those that could not be decoded have none.

    Raises:
        UserError: if the run has no codes, its data cannot be read, the folder has other codes, or other
            keys are overridden.
    """
    if batch_size < 1 or shard_batches < 1:
        raise UserError(f'batch_size is {batch_size} and shard_batches {shard_batches}; give 1 or more.')
    # A prior opens its tokenizer as it was trained, and its codes must be those.
    fixed = [key for key in overrides or {} if key.split('.')[0] not in ('data', 'parallel')]
    if fixed:
        raise UserError(
            f'codes are those of the run as it was trained, and {", ".join(fixed)} cannot be overridden; '
            'override keys of data and parallel alone.'
        )
    output, workdir = Path(output), local_run(workdir)
    with allowing(allow):
        recorded = config_of(workdir)
        config = overridden(recorded, overrides, workdir) if overrides else recorded
        trained = to_json(recorded)
    # The order is that of the data set, so that a shard holds the same examples whenever it is written.
    # Vectors of texts are found by the texts that are written.
    data = build(DataConfig, config.data, 'data')
    data = dataclasses.replace(data, random_crop=False, flip=False, text_vectors=None)
    engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), batch_size)
    splits = splits or (data.train_split, data.eval_split)
    with allowing(allow):
        tokens, datasets = read_data_facts(workdir).spec.tokens, {}
        for split in splits:  # what is learned of the text of the first is that of all
            datasets[split] = open_dataset(data, split, tokens=tokens)
            tokens = tokens or datasets[split].spec.tokens
    first = next(iter(datasets.values()))
    if first.key != 'x':
        raise UserError(f'{first.name} holds codes already; set data.name to a set of examples.')
    with allowing(allow):
        codec = make_codec(TokenizerConfig(str(workdir), step), first.spec)
    facts = CodeFacts(
        tokenizer={**codec.run.identity(), 'config': trained},
        data=dataclasses.asdict(data),
        spec=first.spec,
        class_names=first.class_names,
        codes=codec.code_spec,
        splits={split: len(dataset) for split, dataset in datasets.items()},
        shard_size=batch_size * shard_batches,
        conditions=first.conditions,
    )
    facts = write_facts(output, facts)
    encode = engine.per_example(lambda state, batch: codec.encode(state, batch['x']))
    state = engine.put_state(codec.state())

    def examples(split: str, number: int) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray]]]:
        """Label, codes and conditions of the examples of a shard."""
        start = number * shard_batches
        batches = eval_batches(datasets[split], batch_size=batch_size, start=start, pad=True)
        for batch in islice(batches, shard_batches):
            scales = [codes.reshape(batch_size, -1) for codes in encode(state, batch)]
            codes = np.concatenate(scales, axis=1)
            for i in np.flatnonzero(batch['mask']):
                conditions = {name: batch[name][i] for name in facts.conditions}
                yield batch['label'][i], codes[i], conditions
        batches.close()

    written = {}
    for split in datasets:
        lacking = missing_shards(output, facts, split)
        for number, path in track(lacking, f'files of {split}'):
            write_shard(path, facts, examples(split, number))
        written[split] = len(CodeDataset(DataConfig(name=f'{PREFIX}{output}', cache_gib=0), split))
    return written
