"""A prior over text beside a GPT in PyTorch: the time of a training step, and what both have learned.

    python benchmarks/text.py --config configs/text/shakespeare.py:small --steps 300 \
        --config.data.name=text:PATH --config.data.eval_split=test

The peer has the layers of `torch_transformer.py` and is trained as nanoGPT trains: weights of standard
deviation 0.02, those of what is added to the residual stream divided by the root of twice the number of
blocks, AdamW that decays matrices, a warm-up and a cosine, gradients clipped. It has no dropout, and so the
config must have none. Both see the same batches in the same order, and are evaluated on the same pieces;
blocks of steps alternate, so that whatever else the machine does hits both.
"""

import math
import platform
import statistics

import jax
import numpy as np
from absl import flags
from measuring import NoPeerError, alternate, cores, import_torch, ratios
from ml_collections import config_flags

import vq_jax
from vq_jax import cli
from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.means import means_of
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.text_tokenizers import PADDING, text_tokenizer
from vq_jax.training.optimizer import model_optimizer

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/text/.')
_STEPS = flags.DEFINE_integer('steps', 300, 'Training steps, to which schedules are made.')
_BLOCK = flags.DEFINE_integer('block', 20, 'Steps in a row of each.')
_PEER = flags.DEFINE_bool('peer', True, 'Train PyTorch too, if it is installed.')


class Ours:
    """The project's own loop, without its log."""

    def __init__(self, experiment):
        task, engine = experiment.task, experiment.engine
        self.experiment, self.frozen = experiment, engine.put_state(task.pretrained())
        state = engine.init_state(task.init, jax.random.key(0), experiment.train_set.spec)
        self.state = state.replace(frozen=self.frozen)
        self.step, self.batches = experiment.train_steps()(0), experiment.batches()
        self.parameters = sum(x.size for x in jax.tree.leaves(state.params))

    def run(self, steps):
        """Makes so many steps to their end."""
        for _ in range(steps):
            batch = self.experiment.engine.put_batch(next(self.batches))
            self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready(metrics)

    def bits_per_byte(self):
        """Of the split to evaluate on."""
        task, engine = self.experiment.task, self.experiment.engine
        step, size = engine.eval_step(task.eval_step), self.experiment.loop.batch_size
        batches = eval_batches(self.experiment.eval_set, batch_size=size, pad=True)
        means, _ = means_of([step(self.state, batch)[0] for batch in batches])
        return task.summarize(means)['bits_per_byte']


class Peer:
    """The same in PyTorch, in eager mode."""

    def __init__(self, experiment):
        self.torch = torch = import_torch()
        from torch_transformer import Transformer

        config, sizes = experiment.config, experiment.config.transformer
        self.experiment, self.batches = experiment, experiment.batches()
        self.tokenizer = text_tokenizer(experiment.train_set.spec.tokens)
        self.end = self.tokenizer.size
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if self.device == 'cpu':
            torch.set_num_threads(cores())
        torch.manual_seed(0)
        length = experiment.train_set.spec.shape[0]
        self.model = Transformer(self.end + 1, length, sizes.depth, sizes.width, sizes.heads)
        for name, x in self.model.named_parameters():
            residual = name.endswith(('attended.weight', 'narrow.weight'))
            if x.ndim > 1:
                torch.nn.init.normal_(x, std=0.02 / (math.sqrt(2 * sizes.depth) if residual else 1))
            elif name.endswith('bias'):
                torch.nn.init.zeros_(x)
        self.model.to(self.device)
        matrices = [x for x in self.model.parameters() if x.ndim > 1]
        others = [x for x in self.model.parameters() if x.ndim == 1]
        o = config.optimizer
        groups = [{'params': matrices, 'weight_decay': o.weight_decay}, {'params': others, 'weight_decay': 0}]
        self.optimizer = torch.optim.AdamW(groups, betas=(o.b1, o.b2), eps=o.eps)
        self.clip, self.rate, self.steps = o.clip_norm, model_optimizer(config).learning_rate, 0
        self.parameters = sum(x.numel() for x in self.model.parameters())

    def nats(self, x, reduction):
        """The nats of tokens and ends of texts [b n] that something is to be predicted of."""
        functional = self.torch.nn.functional
        ended = x == PADDING
        tokens = np.where(ended, self.end, x)
        targets = np.where(ended & np.pad(ended[:, :-1], ((0, 0), (1, 0))), -100, tokens)
        tokens, targets = (
            self.torch.from_numpy(a.astype(np.int64)).to(self.device) for a in (tokens, targets)
        )
        before = functional.pad(tokens[:, :-1], (1, 0), value=self.end + 1)
        logits = self.model(before, after_all=True)
        return functional.cross_entropy(logits.transpose(1, 2), targets, reduction=reduction)

    def run(self, steps):
        """Makes so many steps to their end."""
        for _ in range(steps):
            for group in self.optimizer.param_groups:
                group['lr'] = float(self.rate(self.steps))
            loss = self.nats(next(self.batches)['x'], 'mean')
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.clip is not None:
                self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.steps += 1
        loss.item()

    def bits_per_byte(self):
        """The same."""
        nats, length = 0.0, 0
        with self.torch.inference_mode():
            for batch in eval_batches(self.experiment.eval_set, batch_size=self.experiment.loop.batch_size):
                x = batch['x']
                nats += float(self.nats(x, 'sum'))
                length += int(self.tokenizer.lengths[x[x != PADDING]].sum())
        return bits_per_dimension(-nats, length)


def main():
    config = cli.read_config(CONFIG)
    config.steps = _STEPS.value
    if config.transformer.dropout:
        raise UserError(
            f'the peer has no dropout; set config.transformer.dropout=0, not {config.transformer.dropout}.'
        )
    experiment = vq_jax.Experiment.build(config)
    runners = {'vq_jax': Ours(experiment)}
    if _PEER.value:
        try:
            runners['torch'] = Peer(experiment)
        except NoPeerError as error:
            print(error)
    rounds = _STEPS.value // _BLOCK.value
    blocks = {name: lambda r=runner: r.run(_BLOCK.value) for name, runner in runners.items()}
    seconds = alternate(blocks, rounds)
    device = jax.devices()[0].device_kind
    print(f'{device}, {cores()} cores, Python {platform.python_version()}, jax {jax.__version__}')
    print(f'{config.data.name}, {config.batch_size} pieces of {config.data.num_tokens} tokens a step')
    for name, runner in runners.items():
        times = [block / _BLOCK.value for block in seconds[name][1:] or seconds[name]]
        print(
            f'{name:8}{runner.parameters:11,} parameters  {statistics.median(times) * 1e3:8.1f} ms a step  '
            f'{runner.bits_per_byte():.3f} bits per byte after {rounds * _BLOCK.value:,} steps'
        )
    if 'torch' in runners:
        # The first blocks hold the compilation.
        median, least, most = ratios(*(seconds[name][1:] or seconds[name] for name in ('vq_jax', 'torch')))
        version = runners['torch'].torch.__version__
        print(f'speed of vq_jax / speed of torch {version}: {median:.2f} ({least:.2f} to {most:.2f})')


if __name__ == '__main__':
    cli.main(main, required=('config',))
