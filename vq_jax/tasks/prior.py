"""Priors: distributions of codes, which are learned and sampled."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vq_jax.data import AnyDataset, CodeDataset
from vq_jax.errors import UserError
from vq_jax.media import Media, code_images, image_size, show
from vq_jax.models.autoencoder import Codes
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.ops.collectives import pmean
from vq_jax.ops.images import fill
from vq_jax.ops.keys import content_keys, fold_in
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.parts import Part
from vq_jax.spec import Spec
from vq_jax.tasks.batched_sampling import check_guidance
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.code_reports import code_caption
from vq_jax.tasks.prior_config import PriorConfig, Sampling
from vq_jax.tasks.restore import restore_part
from vq_jax.tasks.task import Task, check_decoder, check_labels, check_same_spec
from vq_jax.tasks.token_network import TokenNetwork, make_network
from vq_jax.tasks.tokenizers import Levels, Tokenizer, TokenizerConfig, as_codes, as_tokens, make_tokenizer
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.run_dir import TOP_PRIOR
from vq_jax.training.state import TrainState

_MOST_PIXELS = 4_096  # attention is quadratic in them


@dataclasses.dataclass(frozen=True)
class TopPrior:
    """The prior of the coarser scale.

    Attributes:
        task: samples its tokens.
        state: what the task learned, on the host.
        class_names: of the classes that it is conditioned on, if it is; None if they are not known.
        run: the trained run that it is.
    """

    task: 'PriorTask'
    state: TrainState
    class_names: ClassNames
    run: Any


@dataclasses.dataclass(frozen=True)
class PriorTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does.

    `state.frozen` is `{'tokenizer': its state, 'top': that of the prior of the top codes, or None}`.

    Attributes:
        network: tokens and contexts to logits, and samples of tokens.
        tokenizer: images to tokens and back.
        level: which of the tokenizer's scales is learned, counted from the coarsest.
        top: the prior of the coarser scale, if there is one and it is known.
        sampling: see `Sampling`.
        optimizer: changes the parameters.
        spec: of the examples.
        num_labels: classes that the model is conditioned on; 0 for none.
        accumulate: parts of a step's batch.
    """

    inference_needs_frozen: ClassVar[bool] = True

    network: TokenNetwork
    tokenizer: Tokenizer
    level: int
    top: TopPrior | None
    sampling: Sampling
    optimizer: Optimizer
    spec: Spec
    num_labels: int
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'tokenizer', 'model', 'transformer', 'pixelcnn' and 'sampling'."""
        return {
            'tokenizer': defaults(TokenizerConfig),
            'model': defaults(PriorConfig, without=('top_step',)),
            'transformer': defaults(TransformerSizes),
            'pixelcnn': defaults(PixelCNNSizes),
            'sampling': defaults(Sampling),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'PriorTask':
        """The task of a full config, for images [h w c] of so many classes; reads the tokenizer's run."""
        options = build(PriorConfig, config.model, 'model')
        check_labels(options.class_conditional, num_classes, 'model')
        num_labels = num_classes if options.class_conditional else 0
        sampling = build(Sampling, config.sampling, 'sampling')
        check_guidance(sampling.guidance, num_labels, options.label_dropout)
        tokenizer = make_tokenizer(build(TokenizerConfig, config.tokenizer, 'tokenizer'), spec)
        check_decoder('tokenizer', tokenizer.num_labels, num_labels)
        _check_length(options, tokenizer)
        level = options.level_of(len(tokenizer.grids))
        sizes = {
            'transformer': build(TransformerSizes, config.transformer, 'transformer'),
            'pixelcnn': build(PixelCNNSizes, config.pixelcnn, 'pixelcnn'),
        }
        return cls(
            network=make_network(
                options,
                sizes,
                num_tokens=tokenizer.num_tokens,
                grid=tokenizer.grids[level],
                tokens_per_position=tokenizer.tokens_per_position,
                num_classes=num_labels,
                has_coarser=level > 0,
            ),
            tokenizer=tokenizer,
            level=level,
            top=_top_prior(options, tokenizer, num_labels),
            num_labels=num_labels,
            sampling=sampling,
            optimizer=model_optimizer(config),
            spec=spec,
            accumulate=config.accumulate,
        )

    @property
    def model(self) -> Transformer | PixelCNN:
        """The Flax module."""
        return self.network.model

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth."""
        return self.tokenizer.code_spec.vocabularies

    @property
    def decoder_labels(self) -> int:
        """The tokenizer's: a prior of classes may sample codes of none."""
        return self.tokenizer.num_labels

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless the images are as large as those the model was made for."""
        check_same_spec(spec, self.spec)

    def check_dataset(self, dataset: AnyDataset) -> None:
        """Raises `UserError` if a data set does not fit, or holds the codes of another tokenizer."""
        self.check_spec(dataset.spec)
        self.check_classes(dataset)
        if not isinstance(dataset, CodeDataset):
            return
        theirs, run = dataset.facts.tokenizer, self.tokenizer.run
        ours = run and run.identity()
        if ours is None or theirs['checksum'] != ours['checksum']:
            named = f'{ours["workdir"]}, step {ours["step"]}' if ours else 'pixels'
            raise UserError(
                f'{dataset.name} holds codes of another tokenizer ({theirs["workdir"]}, step '
                f'{theirs["step"]}) than this prior decodes them with ({named}); write them again with '
                'vq_jax.tokenize, or change config.tokenizer.workdir or config.tokenizer.step.'
            )
        if dataset.facts.codes != self.tokenizer.code_spec:
            raise UserError(
                f'{dataset.name} says that it holds codes of {dataset.facts.codes}, and its tokenizer makes '
                f'{self.tokenizer.code_spec}; write them again with vq_jax.tokenize.'
            )

    def built_on(self) -> dict[str, Any]:
        """The tokenizer, and the prior of the top codes."""
        parts = {'tokenizer': self.tokenizer.run, TOP_PRIOR: self.top and self.top.run}
        return {name: run for name, run in parts.items() if run}

    def part_classes(self) -> dict[str, ClassNames]:
        """Those of the tokenizer's decoder, and of the prior of the top codes."""
        parts = {}
        if self.tokenizer.num_labels:
            parts['tokenizer'] = self.tokenizer.class_names
        if self.top and self.top.task.num_labels:
            parts['prior of the top codes'] = self.top.class_names
        return parts

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        coarser = jnp.zeros((1, *self.tokenizer.grids[self.level - 1]), jnp.int32) if self.level else None
        variables = self.network.init(params_key, coarser)
        return TrainState.create(run_key, variables, self.optimizer)

    def pretrained(self) -> Any:
        """What the tokenizer, and the prior of the top codes, learned."""
        return {'tokenizer': self.tokenizer.state(), 'top': self.top and self.top.state}

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        key = state.step_key()
        keys = Part.of_device(len(batch['label']), axis_name).keys(key)
        batch = {**batch, 'asked': self.network.asked(fold_in(keys, 1))}
        share = pmean(jnp.mean(batch['asked']), axis_name)

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, dict[str, jax.Array]]:
            coarser, tokens = self._learned(self._levels(state, batch))
            keys, asked, variables = part.keys(key), batch['asked'], {'params': params}
            context = self.network.context(variables, batch['label'], coarser)
            context = self.network.drop(fold_in(keys, 0), context)
            logits = self.network.logits(variables, tokens, asked, context, fold_in(keys, 2))
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
            right = (jnp.argmax(logits, -1) == tokens) & asked
            # Over all tokens that were asked for, in whatever part and on whatever device.
            loss = jnp.mean(nats * asked) / share
            return loss, {'loss': loss, 'accuracy': jnp.mean(right) / share}

        return state.descend(loss_fn, batch, self.optimizer, self.accumulate, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Nats of the tokens; of a masked model, of those in a mask that depends on the tokens alone.

        Where all scales have a prior with a likelihood, and so has the tokenizer, also the nats of the
        images given their tokens.
        """
        levels = self._levels(state, batch)
        coarser, tokens = self._learned(levels)
        asked, variables = self.network.asked(content_keys(tokens)), state.eval_variables()
        context = self.network.context(variables, batch['label'], coarser)
        logits = self.network.logits(variables, tokens, asked, context)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        right = (jnp.argmax(logits, -1) == tokens) & asked
        values = {
            'nats': jnp.sum(nats * asked, -1),
            'right': jnp.mean(right, -1),
            'asked': jnp.mean(asked, -1),
        }
        if self.network.masked or (self.top and self.top.task.network.masked):
            return values
        if self.top:
            top = self.top.task.token_log_probability(state.frozen['top'], levels, batch['label'])
            values['top_nats'] = -top
        whole = self.level == 0 or self.top is not None
        if whole and self._is_finest and self.tokenizer.has_likelihood and 'x' in batch:
            frozen = state.frozen['tokenizer']
            values['log_likelihood'] = self.tokenizer.log_likelihood(frozen, batch['x'], levels)
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss' is nats a token asked for; a causal model also has the likelihood of whole grids.

        With a tokenizer that has a likelihood, 'bound' is `log p(image | codes) + log p(codes)` in nats,
        the bound of van den Oord et al. 2017, section 3.2, and 'pixel_bits_per_dimension' the same in bits.
        """
        n, share = math.prod(self.network.grid), means['asked']
        metrics = {'loss': means['nats'] / n / share, 'accuracy': means['right'] / share}
        if not self.network.masked:
            metrics |= {'nats': means['nats'], 'bits_per_dimension': bits_per_dimension(-means['nats'], n)}
        if 'top_nats' in means:
            metrics['top_nats'] = means['top_nats']
        if 'log_likelihood' in means:
            bound = means['log_likelihood'] - means['nats'] - means.get('top_nats', 0.0)
            dimensions = math.prod(self.spec.shape)
            metrics['bound'] = bound
            metrics['pixel_bits_per_dimension'] = bits_per_dimension(bound, dimensions)
        return {name: float(value) for name, value in metrics.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images if there are, what their tokens decode to, and a sample of the class of each.

        Top codes are not decoded by themselves: of those there are maps.
        """
        levels = self._levels(state, batch)
        keys, labels = content_keys(levels[self.level].reshape(len(batch['label']), -1)), batch['label']
        shown = {'images': batch['x']} if 'x' in batch else {}
        coarser = levels[: self.level]
        if not self._is_finest:
            sampled = self.sample_tokens(state, keys, labels, coarser=coarser)
            return {**shown, 'codes': levels[self.level], 'sampled_codes': sampled}
        if self.top:
            samples = self.sample(state, keys, labels)
        else:
            sampled = self.sample_tokens(state, keys, labels, coarser=coarser)
            samples = self._decode(state, (*coarser, sampled), labels)
        return {**shown, 'decoded': self._decode(state, levels, labels), 'samples': samples}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Examples over what their tokens decode to over samples."""
        names = {'originals': 'images', 'reconstructions': 'decoded', 'samples': 'samples'}
        rows = {caption: predictions[name] for caption, name in names.items() if name in predictions}
        for name in ('codes', 'sampled_codes'):
            if name in predictions:
                caption = code_caption(name, predictions[name], self.tokenizer.num_tokens)
                codes = predictions[name]
                rows[caption] = code_images(codes, self.tokenizer.num_tokens, image_size(self.spec))
        return show('samples', rows, self.spec)

    def sample(
        self, state: TrainState, keys: jax.Array, labels: jax.Array, sampling: Sampling | None = None
    ) -> jax.Array:
        """Images [n h w c], uint8, of the classes int32 [n] if the model is conditioned on them.

        Raises:
            UserError: if this is not a prior of all scales of codes.
        """
        return self._sample(state, keys, labels, [None] * len(self.tokenizer.grids), sampling)

    def inpaint(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        mask: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Samples parts of images anew, and with them every token that has a pixel in such a part.

        Pixels outside of these parts stay as they are.

        Args:
            state: of the model.
            keys: a random key for each image [b].
            images: uint8 [b h w c]; what they hold where they are to be sampled anew does not count.
            mask: True where an image is to be sampled anew, bool [b h w].
            labels: int32 [b].
            sampling: how; by default as the config says.

        Returns:
            uint8 [b h w c].
        """
        mask_of_tokens = jnp.repeat(mask, self.tokenizer.tokens_per_position, axis=2)
        b, h, w = mask_of_tokens.shape
        known = []
        for tokens in self._encode(state, fill(images, mask)):
            rows, columns = tokens.shape[1:]
            parts = mask_of_tokens.reshape(b, rows, h // rows, columns, w // columns)
            known.append(jnp.where(parts.any((2, 4)), -1, tokens))
        sampled = self._sample(state, keys, labels, known, sampling)
        return jnp.where(mask[..., None], sampled, images)

    def unused(self, sampling: Sampling, method: str) -> dict[str, str]:
        """Keys that change nothing for this model, nor for that of the coarser scale, and why."""
        unused = sampling.unused()
        if not self.network.masked:
            unused |= dict.fromkeys(('steps', 'confidence_temperature'), 'this model draws token by token')
        if self.top:
            unused = {name: unused[name] for name in unused.keys() & self.top.task.unused(sampling, method)}
        return unused

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `UserError` if tokens, or those of the coarser scale, cannot be sampled in this way."""
        check_guidance(sampling.guidance, self.num_labels, self.network.config.label_dropout)
        if self.top and self.top.task.num_labels:
            self.top.task.check_sampling(sampling)

    def sample_tokens(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        known: jax.Array | None = None,
        sampling: Sampling | None = None,
        coarser: Levels = (),
    ) -> jax.Array:
        """Samples grids of the tokens that are learned, int32 [b h w] (see `TokenNetwork.sample`)."""
        variables = state.eval_variables()
        context = self.network.context(variables, labels, *coarser)
        return self.network.sample(variables, keys, context, sampling or self.sampling, known)

    def log_probability(self, state: TrainState, codes: Codes, labels: jax.Array) -> jax.Array:
        """Of the codes of the scale that is learned, given those of the coarser one, in nats [b].

        Args:
            state: of the model.
            codes: as `encode` returns them.
            labels: int32 [b].

        Raises:
            UserError: if the model is a masked one, which has no likelihood.
        """
        return self.token_log_probability(state, as_tokens(codes), labels)

    def token_log_probability(self, state: TrainState, levels: Levels, labels: jax.Array) -> jax.Array:
        """The same, of tokens as the network takes them."""
        if self.network.masked:
            raise UserError('a masked prior has no likelihood; ask a transformer or a PixelCNN for one.')
        coarser, tokens = self._learned(levels)
        asked, variables = jnp.ones(tokens.shape, bool), state.eval_variables()
        context = self.network.context(variables, labels, coarser)
        logits = self.network.logits(variables, tokens, asked, context)
        return -jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, tokens), -1)

    def encode(self, state: TrainState, images: jax.Array) -> Codes:
        """The codes of images, uint8 [b h w c]; of pixels their values, with a depth of c."""
        return as_codes(self._encode(state, images), self.tokenizer.tokens_per_position)

    def decode(self, state: TrainState, codes: Codes, labels: jax.Array) -> jax.Array:
        """Images, uint8 [b h w c], of codes as `encode` returns them, of the classes int32 [b]."""
        return self._decode(state, as_tokens(codes), labels)

    @property
    def _is_finest(self) -> bool:
        return self.level == len(self.tokenizer.grids) - 1

    def _encode(self, state: TrainState, images: jax.Array) -> Levels:
        return self.tokenizer.encode(state.frozen['tokenizer'], images)

    def _decode(self, state: TrainState, levels: Levels, labels: jax.Array) -> jax.Array:
        return self.tokenizer.decode(state.frozen['tokenizer'], levels, labels)

    def _sample(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        known: list[jax.Array | None],
        sampling: Sampling | None,
    ) -> jax.Array:
        """Images whose codes are sampled scale by scale, where they are not known."""
        if not self._is_finest:
            raise UserError(
                'this prior draws the top codes alone; draw images with a prior of the bottom codes, whose '
                'config.model.top_workdir is this run.'
            )
        coarser: Levels = ()
        if self.level:
            if not self.top:
                raise UserError(
                    'this prior draws the bottom codes alone; set model.top_workdir to the run of a prior of '
                    'the top codes, in the config or by overriding it.'
                )
            top = state.frozen['top']
            coarser = (self.top.task.sample_tokens(top, fold_in(keys, 0), labels, known[0], sampling),)
            keys = fold_in(keys, 1)
        sampled = self.sample_tokens(state, keys, labels, known[-1], sampling, coarser)
        return self._decode(state, (*coarser, sampled), labels)

    def _levels(self, state: TrainState, batch: Batch) -> Levels:
        """All tokens of a batch, written or made now, without a gradient."""
        if 'codes' not in batch:
            return jax.lax.stop_gradient(self._encode(state, batch['x']))
        ends = np.cumsum([math.prod(grid) for grid in self.tokenizer.grids])[:-1]
        parts = jnp.split(batch['codes'], ends, axis=1)
        grids = self.tokenizer.grids
        return tuple(part.reshape(-1, *grid) for part, grid in zip(parts, grids, strict=True))

    def _learned(self, levels: Levels) -> tuple[jax.Array | None, jax.Array]:
        """The tokens of the coarser scale as a grid, if there is one, and those that are learned [b n]."""
        tokens = levels[self.level]
        return levels[self.level - 1] if self.level else None, tokens.reshape(len(tokens), -1)


def _check_length(config: PriorConfig, tokenizer: Tokenizer) -> None:
    """Raises `UserError` if a transformer is given all pixels of large images."""
    n = sum(math.prod(grid) for grid in tokenizer.grids)
    if tokenizer.run is None and config.kind != 'pixelcnn' and n > _MOST_PIXELS:
        raise UserError(
            'without config.tokenizer.workdir the tokens are the pixels, of which these images have '
            f'{n:,}; a {config.kind} is made for at most {_MOST_PIXELS:,}; set config.model.kind=pixelcnn, '
            'or config.tokenizer.workdir to a run of vqvae or vqgan.'
        )


def _top_prior(options: PriorConfig, tokenizer: Tokenizer, num_labels: int) -> TopPrior | None:
    """The prior of the top codes that a config names, once it is known to fit."""
    workdir = options.top_workdir
    if not workdir:
        return None
    if options.level != 'bottom':
        raise UserError(
            'config.model.top_workdir is for the prior of the bottom codes; leave it out, or set '
            'config.model.level=bottom.'
        )
    restored = restore_part('model.top_workdir', workdir, options.top_step)
    task = restored.task
    if not isinstance(task, PriorTask) or task.level or len(task.tokenizer.grids) == 1:
        raise UserError(f'{workdir} is no run of a prior of top codes; set config.model.top_workdir to one.')
    if task.tokenizer.run.identity()['checksum'] != tokenizer.run.identity()['checksum']:
        raise UserError(f'the prior {workdir} has another tokenizer than this one; train both on one.')
    if task.num_labels not in (0, num_labels):
        raise UserError(
            f'the prior {workdir} is conditioned on {task.num_labels} classes and this one on {num_labels}; '
            'set config.model.class_conditional alike.'
        )
    return TopPrior(task, restored.state, restored.class_names, restored)
