"""Priors: distributions of codes, which are learned and sampled."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vq_jax.data import CodeDataset, Dataset
from vq_jax.errors import UserError
from vq_jax.media import Media, code_images, show
from vq_jax.models.autoencoder import Codes
from vq_jax.models.context import NO_CONDITIONS, Conditioner, Conditions, Context, described
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.rq_transformer import DepthTransformerSizes, RQTransformer
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.ops.collectives import pmean
from vq_jax.ops.grids import any_within
from vq_jax.ops.images import fill
from vq_jax.ops.keys import content_keys, fold_in
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.masking import random_mask, training_holes
from vq_jax.ops.parts import Part
from vq_jax.ops.texts import fill_text, known_to_go_on
from vq_jax.spec import ConditionSpec, Spec
from vq_jax.tasks.batched_sampling import check_guidance
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.code_reports import code_caption
from vq_jax.tasks.codec import (
    Codec,
    Text,
    TokenizerConfig,
    check_embeddable,
    check_written,
    codes_of,
    make_codec,
)
from vq_jax.tasks.conditioner_config import conditioner_sections, make_conditioner
from vq_jax.tasks.prior_config import PriorConfig, Sampling
from vq_jax.tasks.restore import Restored, restore_part
from vq_jax.tasks.task import Task, check_decoder, labels_of
from vq_jax.tasks.token_network import TokenNetwork, make_network
from vq_jax.tasks.values import bytes_of
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.run_dir import COARSER
from vq_jax.training.state import TrainState

MOST_PIXELS = 4_096  # or tokens of text; attention is quadratic in them


@dataclasses.dataclass(frozen=True)
class PriorTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    A prior learns one scale of codes, in the context of the next coarser one. `state.frozen` is
    `{'codec': its state, 'coarser': those of the priors of coarser scales, the coarsest first}`.

    Attributes:
        network: tokens and contexts to logits, and samples of codes.
        codec: examples to codes and back.
        scale: which is learned, counted from the coarsest.
        coarser: the run of the prior of the next coarser scale, if there is one and it is known.
        sampling: see `Sampling`.
        optimizer: changes the parameters.
    """

    inference_needs_frozen: ClassVar[bool] = True

    network: TokenNetwork
    codec: Codec
    scale: int
    coarser: Restored | None
    sampling: Sampling
    optimizer: Optimizer
    spec: Spec
    num_labels: int
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'tokenizer', 'model', those of conditioners and networks, and 'sampling'."""
        return {
            'tokenizer': defaults(TokenizerConfig),
            'model': defaults(PriorConfig, without=('coarser_step',)),
            **conditioner_sections(),
            'transformer': defaults(TransformerSizes),
            'depth_transformer': defaults(DepthTransformerSizes, without=('head',)),
            'pixelcnn': defaults(PixelCNNSizes),
            'sampling': defaults(Sampling),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'PriorTask':
        """The task of a full config, for examples of so many classes; reads the tokenizer's run."""
        options = build(PriorConfig, config.model, 'model')
        num_labels = labels_of(options.class_conditional, num_classes, 'model')
        sampling = build(Sampling, config.sampling, 'sampling')
        conditioner, dropout = make_conditioner(config, spec)
        codec = make_codec(build(TokenizerConfig, config.tokenizer, 'tokenizer'), spec)
        check_decoder('tokenizer', codec.num_labels, num_labels)
        _check_codes(options, codec)
        scale = options.scale_of(codec.code_spec.num_scales)
        options.check_depth(codec.code_spec.shapes[scale][-1])
        _check_grids(codec, scale)
        sizes = {
            'transformer': build(TransformerSizes, config.transformer, 'transformer'),
            'depth_transformer': build(DepthTransformerSizes, config.depth_transformer, 'depth_transformer'),
            'pixelcnn': build(PixelCNNSizes, config.pixelcnn, 'pixelcnn'),
        }
        network = make_network(options, sizes, codec.code_spec, scale, num_labels, conditioner, dropout)
        check_guidance(sampling.guidance, network.encoder.conditional, network.encoder.most_dropped)
        return cls(
            network=network,
            codec=codec,
            scale=scale,
            coarser=_coarser_prior(options, codec, scale, num_labels, network.encoder.specs),
            num_labels=num_labels,
            sampling=sampling,
            optimizer=model_optimizer(config),
            spec=spec,
            accumulate=config.accumulate,
        )

    @property
    def model(self) -> Transformer | RQTransformer | PixelCNN:
        """The Flax module."""
        return self.network.model

    @property
    def conditioner(self) -> Conditioner | None:
        """What encodes the conditions."""
        return self.network.encoder.conditioner

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth."""
        return self.codec.code_spec.vocabularies

    @property
    def decoder_labels(self) -> int:
        """The codec's: a prior of classes may sample codes of none."""
        return self.codec.num_labels

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises `UserError` if a data set does not fit, or holds the codes of another tokenizer."""
        self.check_spec(dataset.spec)
        self.check_classes(dataset)
        self.check_conditions(dataset)
        check_written(self.codec, dataset)
        if isinstance(dataset, CodeDataset) and self.network.config.given:
            raise UserError(
                f'{dataset.name} holds codes, and config.model.given needs {self.spec.plural}, of which '
                'it hides parts; set it to 0, or learn from the set that the codes were made of.'
            )

    def built_on(self) -> dict[str, Any]:
        """The tokenizer, and the prior of the next coarser scale."""
        parts = {'tokenizer': self.codec.run, COARSER: self.coarser}
        return {name: run for name, run in parts.items() if run}

    def part_classes(self) -> dict[str, ClassNames]:
        """Those of the tokenizer's decoder, and of the prior of the next coarser scale."""
        parts = {}
        if self.codec.num_labels:
            parts['tokenizer'] = self.codec.class_names
        if self.coarser and self.coarser.task.num_labels:
            parts['prior of the coarser codes'] = self.coarser.class_names
        return parts

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        shapes = self.codec.code_spec.shapes
        coarser = jnp.zeros((1, *shapes[self.scale - 1]), jnp.int32) if self.scale else None
        variables = self.network.init(params_key, coarser)
        return TrainState.create(run_key, variables, self.optimizer)

    def pretrained(self) -> Any:
        """What the codec, and the priors of coarser scales, learned."""
        return {'codec': self.codec.state(), 'coarser': tuple(run.state for run in self._coarser_runs)}

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        key = state.step_key()
        keys = Part.of_device(len(batch['label']), axis_name).keys(key)
        hole = self._holes(fold_in(keys, 3))
        # Of examples that are their own codes, these cost nothing here.
        uncertain = self._uncertain(self._codes(state, batch)) if self.codec.run is None else None
        among = _both(self._sampled_in(hole), uncertain)
        batch = {**batch, 'asked': self.network.asked(fold_in(keys, 1), among)}
        batch |= {} if hole is None else {'hole': hole}
        share = pmean(jnp.mean(batch['asked']), axis_name)
        share = jnp.where(share > 0, share, 1.0)  # holes may lie where no text is: then the loss is 0

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, dict[str, jax.Array]]:
            codes, keys, asked = self._codes(state, batch), part.keys(key), batch['asked']
            given = None
            if 'hole' in batch:  # what is outside of it is as in inpainting
                filled = jax.lax.stop_gradient(self.encode(state, self._filled(batch['x'], batch['hole'])))
                given = self._given_codes(filled, batch['hole'])
                codes = (self._outside(batch['hole'], filled[0], codes[0]), *codes[1:])
            known = batch['label'], self.conditions_of(batch)
            nats, right = self._predicted({'params': params}, codes, *known, asked, keys, given)
            # Over all tokens that were asked for, in whatever part and on whatever device.
            loss = jnp.mean(nats) / share
            return loss, {'loss': loss, 'accuracy': jnp.mean(right) / share}

        return state.descend(loss_fn, batch, self.optimizer, self.accumulate, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Nats of the tokens; of a masked model, of those in a mask that depends on the tokens alone.

        Where all scales have a prior with a likelihood, and so has the tokenizer, also the nats of the
        images given their tokens. Of a masked model there is a bound of the nats.
        """
        codes, labels, conditions = self._codes(state, batch), batch['label'], self.conditions_of(batch)
        asked = self.network.asked(content_keys(codes[self.scale]), self._uncertain(codes))
        nats, right = self._predicted(state.eval_variables(), codes, labels, conditions, asked)
        values = {'nats': jnp.sum(nats, -1), 'right': jnp.mean(right, -1), 'asked': jnp.mean(asked, -1)}
        if self.spec.kind == 'text' and self.spec.tokens and 'x' in batch:
            values['bytes'] = bytes_of(batch['x'], self.spec.tokens)
        if not self.network.masked and self.network.shape[-1] > 1:
            values['nats_by_depth'] = jnp.sum(nats.reshape(len(nats), -1, self.network.shape[-1]), 1)
        if self.network.masked:
            keys = fold_in(content_keys(codes[self.scale]), 1)
            values['nats_bound'] = self._nats_bound(state, codes, labels, conditions, keys)
        priors = self._priors(state)
        if any(task.network.masked for task, _ in priors):
            return values
        if self.coarser:
            coarser = (task.log_probability(at, codes, labels, conditions) for task, at in priors[:-1])
            values['coarser_nats'] = -sum(coarser)
        whole = self._is_finest and (self.coarser or not self.scale)
        if whole and self.codec.has_likelihood and 'x' in batch:
            frozen = state.frozen['codec']
            values['log_likelihood'] = self.codec.log_likelihood(frozen, batch['x'], codes, labels)
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss' is nats a token asked for; a causal model also has the likelihood of whole grids.

        Of a masked model 'nats_bound' is a bound of that (see `_nats_bound`).

        Of codes of several depths, 'loss_depth_0' is that of the first of each position, and so on.

        With a tokenizer that has a likelihood, 'bound' is `log p(image | codes) + log p(codes)` in nats,
        the bound of van den Oord et al. 2017, section 3.2, and 'pixel_bits_per_dimension' the same in bits.

        Of text itself, 'bits_per_byte' are the bits of all tokens, and of ends, for each byte of all texts;
        of text with a tokenizer, 'bits_per_byte_bound' are those of 'bound'.
        """
        n, share = math.prod(self.network.shape), means['asked']
        metrics = {'loss': means['nats'] / n / share, 'accuracy': means['right'] / share}
        end = '_bound' if self.network.masked else ''
        nats = metrics[f'nats{end}'] = means[f'nats{end}']
        if 'bytes' in means and self.codec.run is None:
            metrics[f'bits_per_byte{end}'] = bits_per_dimension(-nats, means['bytes'])
        else:
            metrics[f'bits_per_dimension{end}'] = bits_per_dimension(-nats, n)
        for depth, nats in enumerate(means.get('nats_by_depth', ())):
            metrics[f'loss_depth_{depth}'] = nats / math.prod(self.network.shape[:-1])
        if 'coarser_nats' in means:
            metrics['coarser_nats'] = means['coarser_nats']
        if 'log_likelihood' in means:
            bound = means['log_likelihood'] - means['nats'] - means.get('coarser_nats', 0.0)
            metrics['bound'] = bound
            if 'bytes' in means:
                metrics['bits_per_byte_bound'] = bits_per_dimension(bound, means['bytes'])
            else:
                metrics['pixel_bits_per_dimension'] = bits_per_dimension(bound, math.prod(self.spec.shape))
        return {name: float(value) for name, value in metrics.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images if there are, what their tokens decode to, and a sample of the class of each.

        Codes of a coarser scale are not decoded by themselves: of those there are maps.
        """
        codes, labels, conditions = self._codes(state, batch), batch['label'], self.conditions_of(batch)
        learned = codes[self.scale]
        keys = content_keys(learned)
        shown = {'images': batch['x']} if 'x' in batch else {}
        if self._is_finest and self.coarser:
            samples = self.sample(state, keys, labels, conditions=conditions)
        else:
            sampled = self.sample_codes(
                state, keys, labels, coarser=codes[: self.scale], conditions=conditions
            )
            if not self._is_finest:
                return {**shown, 'codes': learned, 'sampled_codes': sampled}
            samples = self.decode(state, (*codes[:-1], sampled), labels)
        return {**shown, 'decoded': self.decode(state, codes, labels), 'samples': samples}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Examples over what their tokens decode to over samples."""
        names = {'originals': 'images', 'reconstructions': 'decoded', 'samples': 'samples'}
        if isinstance(self.codec, Text):  # whose reconstructions are the originals
            del names['reconstructions']
        rows = {caption: predictions[name] for caption, name in names.items() if name in predictions}
        for name in ('codes', 'sampled_codes'):
            if name in predictions:
                tokens, k = predictions[name].reshape(-1, *self.network.grid), self.network.num_tokens
                rows[code_caption(name, tokens, k)] = code_images(tokens, k, self.spec)
        return show('samples', rows, self.spec)

    def sample(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Examples [n ...] of the classes int32 [n] if the model is conditioned on them.

        Raises:
            UserError: if this is not a prior of all scales of codes.
        """
        known = [None] * self.codec.code_spec.num_scales
        return self._sample(state, keys, labels, conditions, known, sampling)

    def inpaint(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        mask: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Samples parts of examples anew, and with them every token that has a value in such a part.

        Values outside of these parts stay as they are. What examples of any kind, as the spec says [b ...],
        hold where the mask, bool [b *grid], is True does not count. There is a random key for each example
        [b], and a class, int32 [b].
        """
        filled = self.encode(state, self._filled(images, mask))
        known = [self._outside(mask, codes, -1) for codes in filled]
        given = self._given_codes(filled, mask)
        goes_on = known_to_go_on(images, mask) if self.spec.kind == 'text' else None
        sampled = self._sample(state, keys, labels, conditions, known, sampling, given, goes_on)
        return jnp.where(jnp.expand_dims(mask, range(mask.ndim, images.ndim)), sampled, images)

    def unused(self, sampling: Sampling, method: str) -> dict[str, str]:
        """Keys that change nothing for this model, nor for those of coarser scales, and why."""
        unused = sampling.unused()
        if not self.network.masked:
            unused |= dict.fromkeys(('steps', 'confidence_temperature'), 'this model samples token by token')
        if self.coarser:
            theirs = self.coarser.task.unused(sampling, method)
            unused = {name: unused[name] for name in unused.keys() & theirs}
        return unused

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `UserError` if codes, or those of coarser scales, cannot be sampled in this way."""
        encoder = self.network.encoder
        check_guidance(sampling.guidance, encoder.conditional, encoder.most_dropped)
        if self.coarser and self.coarser.task.network.encoder.conditional:
            self.coarser.task.check_sampling(sampling)

    def sample_codes(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        known: jax.Array | None = None,
        sampling: Sampling | None = None,
        coarser: Codes = (),
        conditions: Conditions = NO_CONDITIONS,
        given: jax.Array | None = None,
    ) -> jax.Array:
        """Samples codes of the scale that is learned, int32 [b *grid depth] (see `TokenNetwork.sample`).

        What is given of the examples, as codes of the coarsest scale (see `PriorConfig.given`), is read by
        priors of that scale that have learned to; None is nothing.
        """
        variables = state.eval_variables()
        context = self._context(variables, labels, conditions, coarser, given)
        return self.network.sample(variables, keys, context, sampling or self.sampling, known)

    def log_probability(
        self,
        state: TrainState,
        codes: Codes,
        labels: jax.Array,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Of the codes of the scale that is learned, given those of the next coarser one, in nats [b].

        Codes are as `encode` returns them, of classes int32 [b]. A masked model, which has no likelihood,
        raises `UserError`.
        """
        if self.network.masked:
            raise UserError('a masked prior has no likelihood; ask a transformer or a PixelCNN for one.')
        keys = content_keys(codes[self.scale])
        asked = self.network.asked(keys, self._uncertain(codes))
        nats, _ = self._predicted(state.eval_variables(), codes, labels, conditions, asked)
        return -jnp.sum(nats, -1)

    def encode(self, state: TrainState, examples: jax.Array) -> Codes:
        """The codes of examples [b ...]; of pixels their values, with a depth of c."""
        return self.codec.encode(state.frozen['codec'], examples)

    def decode(
        self, state: TrainState, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """Examples [b ...] of codes as `encode` returns them, of the classes int32 [b].

        Texts have no end where they are known to go on, bool [b n].
        """
        return self.codec.decode(state.frozen['codec'], codes, labels, goes_on)

    @property
    def _is_finest(self) -> bool:
        return self.scale == self.codec.code_spec.num_scales - 1

    def _sample(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        conditions: Conditions,
        known: list[jax.Array | None],
        sampling: Sampling | None,
        given: jax.Array | None = None,
        goes_on: jax.Array | None = None,
    ) -> jax.Array:
        """Examples whose codes are sampled scale by scale, where they are not known."""
        if not self._is_finest:
            raise UserError(
                f'this prior samples the codes of scale {self.scale} alone; sample with the prior of the '
                'finest scale, whose config.model.coarser_workdir leads to this run.'
            )
        if self.scale and not self.coarser:
            raise UserError(
                f'this prior samples the codes of scale {self.scale} alone; set model.coarser_workdir to the '
                f'run of a prior of scale {self.scale - 1}, in the config or by overriding it.'
            )
        codes: Codes = ()
        for i, (task, at) in enumerate(self._priors(state)):
            own = fold_in(keys, i) if self.scale else keys
            codes += (task.sample_codes(at, own, labels, known[i], sampling, codes, conditions, given),)
        return self.decode(state, codes, labels, goes_on)

    @property
    def _coarser_runs(self) -> tuple[Restored, ...]:
        """The priors of all coarser scales, the coarsest first, if they are known."""
        return (*self.coarser.task._coarser_runs, self.coarser) if self.coarser else ()

    def _priors(self, state: TrainState) -> list[tuple['PriorTask', TrainState]]:
        """The same and this one, each with its state."""
        coarser = zip(self._coarser_runs, state.frozen['coarser'], strict=True)
        return [*((run.task, at) for run, at in coarser), (self, state)]

    def _codes(self, state: TrainState, batch: Batch) -> Codes:
        """All codes of a batch, written or made now, without a gradient."""
        return codes_of(self.codec, state.frozen['codec'], batch)

    def _context(
        self,
        variables: Any,
        labels: jax.Array,
        conditions: Conditions,
        codes: Codes,
        given: jax.Array | None = None,
    ) -> Context:
        """The context of the scale that is learned, with the codes of all coarser ones, and what is given."""
        given = given if self.network.config.given else None
        read = codes[self.scale - 1] if self.scale else given
        return self.network.context(variables, labels, read, conditions)

    def _given_codes(self, filled: Codes, hole: jax.Array) -> jax.Array:
        """What is given around a hole, bool [b *grid], of the codes of filled examples: those of scale 0.

        Where all of a position is in the hole, there is no code but `largest`, one more than there are.
        """
        codes, apart = filled[0], self.codec.first_apart
        some = any_within(~hole, codes.shape[1:-1], apart)[..., None]
        return jnp.where(some, codes, self.codec.code_spec.largest)

    def _outside(self, hole: jax.Array, codes: jax.Array, others: jax.Array | int) -> jax.Array:
        """Codes of one scale, with others where a position has a part in a hole, bool [b *grid]."""
        parts = any_within(hole, codes.shape[1:-1], self.codec.first_apart)
        return jnp.where(parts[..., None], others, codes)

    def _nats_bound(
        self, state: TrainState, codes: Codes, labels: jax.Array, conditions: Conditions, keys: jax.Array
    ) -> jax.Array:
        """At least the nats, in the mean, of codes under a masked model that samples them one by one [b].

        In an order that is random anew for each example. Of each there is one mask, by a random key [b], with
        every number of masked tokens equally likely: Hoogeboom et al. 2022 (arXiv:2110.02037), equation 3.
        """
        every = jnp.ones((len(labels), math.prod(self.network.shape)), bool)
        masked = random_mask(keys, every, 'linear')
        nats, _ = self._predicted(state.eval_variables(), codes, labels, conditions, masked)
        return jnp.sum(nats, -1) * every.shape[-1] / jnp.sum(masked, -1)

    def _filled(self, x: jax.Array, hole: jax.Array) -> jax.Array:
        """Examples with something in their holes, bool [b *grid]."""
        return fill_text(x, hole) if self.spec.kind == 'text' else fill(x, hole)

    def _uncertain(self, codes: Codes) -> jax.Array | None:
        """Which codes of the scale that is learned are not certain beforehand, bool [b n]; None is all.

        A masked model, which is not given what is before a code, predicts all.
        """
        certain = None if self.network.masked else self.codec.certain(codes)
        return None if certain is None else ~certain

    def _holes(self, keys: jax.Array) -> jax.Array | None:
        """What is hidden of training examples, with a random key for each [b]: bool [b *grid].

        All of those of which nothing is given; None if that is all of all.
        """
        share = self.network.config.given
        return training_holes(keys, share, self.spec.grid) if share else None

    def _sampled_in(self, hole: jax.Array | None) -> jax.Array | None:
        """Which tokens have a part in holes, bool [b n]; None if that is all of all."""
        if hole is None:
            return None
        known = jnp.zeros((len(hole), *self.network.shape), bool)
        return self._outside(hole, known, True).reshape(len(hole), -1)

    def _predicted(
        self,
        variables: Any,
        codes: Codes,
        labels: jax.Array,
        conditions: Conditions,
        asked: jax.Array,
        keys: jax.Array | None = None,
        given: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """How the tokens that are asked for, bool [b n], are predicted, of the codes of all scales.

        The nats of each token, and whether it is the likeliest [b n]; 0 and False of those not asked for. A
        random key for each example [b] is for training; None drops nothing. What is given is as
        `_given_codes` returns it.
        """
        tokens = codes[self.scale].reshape(asked.shape)
        context = self._context(variables, labels, conditions, codes, given)
        if keys is not None:
            context = self.network.encoder.drop(fold_in(keys, 0), context)
        logits = self.network.logits(variables, tokens, asked, context, fold_in(keys, 2))
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        return nats * asked, (jnp.argmax(logits, -1) == tokens) & asked


def _both(some: jax.Array | None, others: jax.Array | None) -> jax.Array | None:
    """Where both are True, bool [b n]; None is everywhere."""
    if some is None or others is None:
        return others if some is None else some
    return some & others


def _check_codes(config: PriorConfig, codec: Codec) -> None:
    """Raises `UserError` for codes that no prior learns, and for a transformer over large images."""
    spec = codec.code_spec
    if len({k for vocabulary in spec.vocabularies for k in vocabulary}) > 1:
        raise UserError(
            f'the codes of {codec.run.workdir} have vocabularies of several sizes, {spec.vocabularies}, and '
            'a prior takes those of one; set config.tokenizer.workdir to a run with equal ones.'
        )
    check_embeddable(codec, 'prior')
    # Only flattened, each channel of a pixel is a step.
    length = spec.length if config.pattern == 'flattened' else math.prod(spec.grids[0])
    if codec.run is None and config.kind != 'pixelcnn' and length > MOST_PIXELS:
        if isinstance(codec, Text):
            raise UserError(
                f'config.data.num_tokens is {length:,}; a {config.kind} is made for at most '
                f'{MOST_PIXELS:,}; give fewer.'
            )
        raise UserError(
            'without config.tokenizer.workdir the tokens are the pixels, of which these images have '
            f'{length:,}; a {config.kind} is made for at most {MOST_PIXELS:,}; set '
            'config.model.kind=pixelcnn, or config.tokenizer.workdir to a run of vqvae or vqgan.'
        )


def _check_grids(codec: Codec, scale: int) -> None:
    """Raises `UserError` unless a scale's grid is a multiple of that of the next coarser one."""
    coarse, fine = codec.code_spec.grids[max(0, scale - 1)], codec.code_spec.grids[scale]
    if any(n % m for n, m in zip(fine, coarse, strict=True)):
        coarse, fine = ('x'.join(map(str, grid)) for grid in (coarse, fine))
        raise UserError(
            f'scale {scale} of the codes of {codec.run.workdir} has a grid of {fine}, no multiple of the '
            f'{coarse} of the coarser scale, as a prior needs; set config.tokenizer.workdir to a run whose '
            'grids are, such as one with config.multi_scale.scales=(1,2,4,8).'
        )


def _coarser_prior(
    options: PriorConfig,
    codec: Codec,
    scale: int,
    num_labels: int,
    conditions: Mapping[str, ConditionSpec],
) -> Restored | None:
    """The prior of the next coarser scale that a config names, once it is known to fit."""
    workdir = options.coarser_workdir
    if not workdir:
        return None
    restored = restore_part('model.coarser_workdir', workdir, options.coarser_step)
    task = restored.task
    if not isinstance(task, PriorTask) or task._is_finest or task.scale != scale - 1:
        raise UserError(
            f'{workdir} is no run of a prior of scale {scale - 1}; set config.model.coarser_workdir to one.'
        )
    if task.scale and not task.coarser:
        raise UserError(
            f'the prior {workdir} was trained without one of scale {scale - 2}, and cannot be sampled with; '
            'train it with config.model.coarser_workdir.'
        )
    if _checksum(task.codec) != _checksum(codec) or task.codec.code_spec != codec.code_spec:
        raise UserError(
            f'the prior {workdir} has another tokenizer than this one, or other depths of it; train both on '
            'the same codes of one.'
        )
    if task.num_labels not in (0, num_labels):
        raise UserError(
            f'the prior {workdir} is conditioned on {task.num_labels} classes and this one on {num_labels}; '
            'set config.model.class_conditional alike.'
        )
    if not task.condition_specs.items() <= conditions.items():
        raise UserError(
            f'the prior {workdir} is conditioned on {described(task.condition_specs)} and this one on '
            f'{described(conditions) or "nothing of that kind"}; set config.conditioner alike.'
        )
    return restored


def _checksum(codec: Codec) -> str | None:
    return codec.run and codec.run.identity()['checksum']
