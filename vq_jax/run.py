"""A trained run, opened from its directory, for notebooks and commands."""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.buckets import is_address
from vq_jax.data import DataConfig, Dataset, open_dataset
from vq_jax.data.transforms import TRANSFORMS
from vq_jax.errors import UserError, on_device, plural
from vq_jax.evaluators.features import FeatureEvaluator
from vq_jax.evaluators.means import Evaluation, MeanEvaluator
from vq_jax.evaluators.retrieval import RetrievalEvaluator
from vq_jax.evaluators.sound import SoundEvaluator
from vq_jax.evaluators.sources import open_features
from vq_jax.evaluators.video import VideoEvaluator
from vq_jax.exporting import PLATFORMS, check_exportable, serialized
from vq_jax.extensions import allowing
from vq_jax.files import write_atomically
from vq_jax.models.context import NEGATIVE, Conditioner, prepared
from vq_jax.models.convolution import fold_weight_norm
from vq_jax.models.inception import Resize
from vq_jax.sampling.windows import windows
from vq_jax.tasks.arguments import (
    as_array,
    check_can,
    check_whole_grids,
    checked_codes,
    checked_examples,
    checked_mask,
    checked_numbers,
    first_depths,
    first_scales,
)
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.batched_sampling import BatchedSampler, check_number, sample_keys
from vq_jax.tasks.classes import ClassNames, check_class_names, checked_labels, shown
from vq_jax.tasks.restore import Restored, restore
from vq_jax.tasks.task import Edits, Encodes, LooksUp, State
from vq_jax.tasks.vae import VAETask
from vq_jax.text_tokenizers import PADDING, texts_of
from vq_jax.training.config import build
from vq_jax.training.manifest import fingerprint
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.run_dir import check_published
from vq_jax.training.state import abstract_examples

_NO_CLASSES = np.zeros(1, np.int32)  # of a model that reads none
_MOST_BETWEEN = 1024  # examples of an interpolation, which are one batch

# What a model is conditioned on beside classes, by name: of all examples, or of each.
Conditions = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
# What all examples or each of them are to show.
Text = str | Sequence[str] | None
# The class of all examples or of each: numbers from 0, or names (see `vq_jax.tasks.classes.checked_labels`).
Label = int | str | Sequence[int | str] | np.ndarray | None
Array = np.ndarray | jax.Array
Exported = Literal['encode', 'decode', 'reconstruct', 'sample']  # what `Run.export` writes
Codes = Array | tuple[Array, ...]  # of one scale, or of each from coarse to fine


def load(
    workdir: str | Path,
    step: int | Literal['best'] | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> 'Run':
    """Opens a trained run.

    Args:
        workdir: the directory that `vq_jax.train` wrote, or the address of one in a bucket, `gs://...`,
            or on the Hugging Face Hub, `hf://OWNER/NAME`.
        step: the checkpoint to use; 'best' is the one of the best `config.best_metric`, None the newest that
            is undamaged.
        overrides: other values for keys of its config, by their dotted names, such as
            `{'model.importance_samples': 5000}`. What the parameters depend on must stay.
        allow: modules that this run, and those that it is built on or compared with, may import: those of
            classes of one's own. Importing runs code; name what you trust.

    Raises:
        UserError: if the directory holds no run, no checkpoint that can be read, one of another model than
            the overrides make, or if it needs a module that is not allowed.
    """
    return Run(restore(workdir, step, overrides, allow))


class Run:
    """A trained model with its parameters.

    Attributes:
        config: the full config of the run.
        task: what was learned; `task.model` is the Flax module.
        state: the restored state.
        variables: the model's variables for evaluation, for `task.model.apply`.
        spec: of the examples that the model was trained on.
        class_names: of the classes of its data, in the order of the labels; empty without labels, None for
            a run of before they were kept.
        step: the training step of the checkpoint.
    """

    def __init__(self, restored: Restored) -> None:
        self._restored = restored
        self.config = restored.config
        self.task = restored.task
        self.state = restored.state
        self.spec = restored.spec
        self.class_names: ClassNames = restored.class_names
        self.step = restored.step
        self._jit = functools.cache(jax.jit)  # of bound methods, each compiled once

    def __repr__(self) -> str:
        classes = f', classes=[{shown(self.class_names)}]' if self.class_names else ''
        return f'Run(task={self.config.task!r}, data={str(self.spec)!r}, step={self.step}{classes})'

    @property
    def name(self) -> str:
        """What its directory is called."""
        return self._restored.workdir.absolute().name

    @property
    def variables(self) -> dict[str, Any]:
        """The model's variables for evaluation."""
        return self.state.eval_variables()

    def encode(self, examples: Array) -> jax.Array | tuple[jax.Array, ...]:
        """Examples to codes.

        Args:
            examples: as `spec` says, such as images uint8 [b h w c] or sounds int16 [b t c], of any size that
                the model can reduce as often as it must.

        Returns:
            Codes, int32 [b *grid], or [b *grid depth] where a position has several; of a model with several
            scales a tuple of these, from coarse to fine. Or the latents of a VAE or KL autoencoder, float32
            [b d] or [b *grid d]. Of a prior of pixels, their values [b h w c].
        """
        self._needs('encode')
        return self._plain(self._jit(self.task.encode)(self.state, self._checked(examples)))

    def decode(
        self,
        codes: Codes,
        label: Label = None,
        *,
        depths: int | None = None,
        scales: int | None = None,
    ) -> jax.Array:
        """Codes, or latents, to examples [b ...] as `spec` says.

        Args:
            codes: what `encode` returns; of a residual quantizer also the first depths alone, int32
                [b *grid n], and of a multi-scale quantizer the first scales, a tuple of fewer.
            label: the class of all, or of each [b], for a decoder that is conditioned on it: a number from
                0, or a name of `class_names`. Digits in a text are a number only where no class is called so.
            depths: decode from the first so many codes of each position alone, where a quantizer can (see
                `config.residual.dropout`); None for all that are given.
            scales: decode from the first so many scales alone, where a quantizer can (`multi_scale`); None
                for all that are given.
        """
        self._needs('decode')
        return self._jit(self.task.decode)(self.state, *self._decodable(codes, label, depths, scales))

    def stream(self) -> 'Stream':
        """Begins to encode or decode sound or video chunk by chunk, with a causal model (see `Stream`).

        Raises:
            UserError: if the model is not causal.
        """
        if not isinstance(self.task, AutoencoderTask) or not self.task.streams:
            raise UserError(
                f'this run of the task {self.config.task} cannot be streamed; one of vqgan with '
                'config.variant.backbone=seanet can, where config.seanet.causal is true and '
                'config.seanet.padding zeros, and of video one with config.model.temporal=causal, or of '
                'vae with config.residual.temporal=causal and config.model.likelihood=discretised_logistic; '
                'none whose config.quantizer.kind is multi_scale.'
            )
        return Stream(self)

    def lookup(self, codes: Codes) -> jax.Array | tuple[jax.Array, ...]:
        """The vectors that stand for codes, with which the decoder begins.

        Args:
            codes: of any shape, int [...], such as `np.arange(512)`, or [... depth] of a model with several
                codes at a position; of a model with several scales, a tuple, from coarse to fine.

        Returns:
            float32 [... d], or a tuple of such arrays.
        """
        if not self.task.vocabularies or not isinstance(self.task, LooksUp):
            raise UserError(
                f'a run of the task {self.config.task} has no codes that stand for vectors; give one of '
                'vqvae or vqgan with a quantizer, such as the tokenizer of a prior.'
            )
        codes = checked_numbers(codes, self.task.vocabularies)
        vectors = self._jit(self.task.lookup)(self.state, codes)
        return vectors if len(vectors) > 1 else vectors[0]

    def reconstruct(self, examples: Array, label: Label = None) -> jax.Array:
        """Examples [b ...] to codes and back."""
        self._needs('encode', f'reconstruct {self.spec.plural}')
        return self.decode(self.encode(examples), label)

    def sample(
        self,
        n: int | None = None,
        label: Label = None,
        seed: int = 0,
        *,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Samples examples, on all devices.

        Example number i depends on the seed and on i alone, not on n nor on the devices.

        Args:
            n: how many; None is one for each text.
            label: the class of all, or of each [n], for a model that is conditioned on it; None samples
                all classes in turn.
            seed: the same gives the same examples.
            text: what all, or each [n], are to show, for a model that is conditioned on it.
            negative_text: what guidance leans away from, in place of nothing; of all, or of each [n].
            conditions: what else the model is conditioned on, by name: of all, or a sequence of those of each
                [n]. What a name may be given is up to the conditioner of the run (`task.conditioner`).
            progress: show a bar.
            **sampling: for a prior or a diffusion model, other values for keys of the section 'sampling'
                of its config.

        Returns:
            [n ...] as `spec` says, such as images uint8 [n h w c], sounds int16 [n t c], or tokens int32
            [n t], of which `texts` makes texts.
        """
        self._needs('sample')
        if n is None and text is not None:
            n = len(text) if _is_row(text) else 1
        check_number(n, what=self.spec.plural)
        labels = self._labels(n, label, needed=False)
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        given = self._conditions(n, **asked, sampling=sampling)
        return self._sampled(self.task.sample, n, labels, seed, sampling, given, progress=progress)

    def export(
        self,
        method: Exported,
        path: str | Path,
        *,
        platforms: Sequence[str] = PLATFORMS,
        **sampling: Any,
    ) -> None:
        """Writes a method, with the weights, as a file that needs JAX alone, by `jax.export`.

        `call = jax.export.deserialize(Path(path).read_bytes()).call` is then the method, for any number b of
        examples of the sizes in `spec`. What it takes and returns are arrays as here, which nothing checks:

        - `call(examples)` for encode;
        - `call(codes)` for decode, `call(examples)` for reconstruct, and after these the classes, int32 [b],
          of a decoder that is conditioned on them;
        - `call(seed, numbers)` for sample, with the seed int32 [] and the numbers int32 [b]; then the
          classes, int32 [b]. `call(np.int32(0), np.arange(16, dtype=np.int32))` are the examples of
          `sample(16)`.

        Args:
            method: one of these.
            path: of the file.
            platforms: where it is to run: of 'cpu', 'cuda' (NVIDIA GPUs) and 'tpu'.
            **sampling: for sample, other values for keys of the section 'sampling' of the config.

        Raises:
            UserError: the run has no such method, or samples by conditions; flatbuffers is not
                installed; or the file cannot be written.
        """
        if method not in get_args(Exported):
            raise UserError(f'{method!r} cannot be exported; give one of {", ".join(get_args(Exported))}.')
        if is_address(str(path)):
            raise UserError(
                f'the path is {path}, and files are exported to a disk; copy it there afterwards.'
            )
        function, *arguments = self._exported(method, sampling)
        check_exportable(platforms, (self.state.for_inference(), self.state.frozen))
        write_atomically(Path(path), serialized(function, method, arguments, platforms))

    def inpaint(
        self,
        examples: Array,
        mask: np.ndarray,
        label: Label = None,
        seed: int = 0,
        *,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Samples a part of examples anew, with a prior or a diffusion model.

        Args:
            examples: [b ...] as `spec` says.
            mask: True where an example is to be sampled anew, bool [*grid] or [b *grid], such as [h w] of
                images and [t] of sounds. Every token or latent that has a part in it is sampled; what is
                outside of it stays as it is.
            label: the class of all, or of each [b], for a model that is conditioned on it.
            seed: as for `sample`, like all that follows.
            text: what all, or each [b], are to show.
            negative_text: what guidance leans away from.
            conditions: of all, or of each [b].
            progress: show a bar.
            **sampling: other values for keys of the section 'sampling'.

        Returns:
            As `examples`.
        """
        self._needs('inpaint')
        examples = self._checked(examples)
        given = {'images': examples, 'mask': checked_mask(mask, self._places(examples))}
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        return self._edit(self.task.inpaint, given, label, asked, seed, progress, sampling)

    def infill(
        self,
        examples: Array,
        start: int,
        stop: int,
        label: Label = None,
        seed: int = 0,
        *,
        mask: np.ndarray | None = None,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Samples a stretch of sounds, videos or texts anew, or what follows, by a generative model.

        They may be of any length. Where the stretch or they are longer than what the model was trained on, it
        is given a window of that length at a time (see `vq_jax.sampling.windows`). Shorter sounds are
        followed by zeros, as in training, unless they are continued. Of shorter videos, the model makes what
        follows too, which is left out. Where a prior of tokens ends a text in a gap, the gap has fewer
        tokens, and what follows it moves up.

        Args:
            examples: sounds int16 [b t c], videos uint8 [b t h w c], or tokens of texts int32 [b t].
            start: where the stretch begins, in samples, frames or tokens, from 0 to t.
            stop: where it ends, after `start`; beyond t it continues them.
            label: as for `inpaint`, like all that follows but the mask.
            seed: of the samples.
            mask: True where, within the stretch, examples are sampled anew, bool [*grid] or [b *grid], such
                as an object in a video [t h w]; None is everywhere. What follows is sampled as a whole.
            text: as for `inpaint`.
            negative_text: as for `inpaint`.
            conditions: of all, or of each [b].
            progress: show bars.
            **sampling: other values for keys of the section 'sampling'.

        Returns:
            [b max(t, stop) ...], bit for bit as `examples` but for what is sampled; -1 stands after texts.
        """
        self._needs('inpaint')
        if self.spec.kind == 'image':
            raise UserError(
                f'{self.spec.plural} have no time in which a stretch of them could lie; give inpaint a mask.'
            )
        examples = np.asarray(checked_examples(examples, self.spec))
        total, length = examples.shape[1], self.spec.shape[0]
        whole = all(isinstance(at, numbers.Integral) for at in (start, stop))
        if not whole or not 0 <= start < stop or start > total:
            raise UserError(
                f'the stretch is from {start!r} to {stop!r} of {total:,}; give whole numbers, the first from '
                f'0 to {total:,} and the second above it.'
            )
        after = max(length, total, stop) - total
        nothing = PADDING if self.spec.kind == 'text' else 0  # what is known of a text ends where it does
        made = np.pad(
            examples,
            [(0, after if axis == 1 else 0) for axis in range(examples.ndim)],
            constant_values=nothing,
        )
        hole = np.zeros(self._places(made), bool)
        if mask is None:
            hole[:, start:stop] = True
        else:
            hole[:, start : min(stop, total)] = checked_mask(mask, self._places(examples))[:, start:stop]
            hole[:, total:stop] = True
            times = np.flatnonzero(hole.any((0, *range(2, hole.ndim))))
            if not len(times):
                raise UserError(
                    f'nothing of the mask is True from {start:,} to {stop:,}; give one that is, or another '
                    'stretch.'
                )
            start, stop = int(times[0]), int(times[-1]) + 1
        if stop > total or self.spec.kind == 'video':
            hole[:, max(total, stop) :] = True
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        for i, window in enumerate(windows(length, total, start, stop)):
            # Windows that are sampled alike would repeat each other.
            own = int(np.random.SeedSequence((seed, i)).generate_state(1)[0] >> 1) if i else seed
            options = {**asked, 'progress': progress, **sampling}
            seen = np.s_[:, window.first : window.first + length]
            kept = np.s_[:, window.first + window.start : window.first + window.stop]
            if hole[kept].any():
                sampled = self.inpaint(made[seen], hole[seen], label, own, **options)
                made[kept], hole[kept] = sampled[:, window.start : window.stop], False
        if self.spec.kind == 'text' and stop > total:  # nothing follows an end
            made = np.where(np.maximum.accumulate(made == PADDING, axis=1), PADDING, made)
        made = made[:, : max(total, stop)]
        if self.spec.kind == 'text':
            made = np.take_along_axis(made, np.argsort(made == PADDING, axis=1, kind='stable'), axis=1)
        return made

    def texts(self, examples: Array) -> list[str]:
        """The texts of tokens int32 [b t], such as `sample` returns; -1, where there is none, is left out."""
        if self.spec.kind != 'text' or self.spec.tokens is None:
            raise UserError(
                f'this run is of {self.spec.plural} whose tokens stand for no text that is known.'
            )
        return texts_of(checked_examples(examples, self.spec), self.spec.tokens)

    def describe(
        self, examples: Array, seed: int = 0, *, progress: bool = False, **sampling: Any
    ) -> list[str]:
        """What examples show, in words, by a captioner.

        Args:
            examples: [b ...] as `spec` says, such as images uint8 [b h w c].
            seed: of the samples; at a temperature of 0 nothing depends on it.
            progress: show a bar.
            **sampling: other values for keys of the section 'sampling' of the config, such as `temperature`,
                `top_k`, `top_p` and `guidance`.

        Returns:
            A text for each.
        """
        self._needs('describe')
        examples = np.asarray(self._checked(examples))
        n, given = len(examples), {'examples': examples}
        labels = self._labels(n, None, needed=False)
        tokens = self._sampled(self.task.describe, n, labels, seed, sampling, given, progress=progress)
        return texts_of(tokens, self.task.texts.spec.tokens)

    def describe_files(
        self, files: Sequence[Any], seed: int = 0, *, progress: bool = False, **sampling: Any
    ) -> list[str]:
        """What files show, as `describe` says it of examples, with one batch of them in memory.

        Args:
            files: as `prepare` takes them.
            seed: as for `describe`.
            progress: show a bar.
            **sampling: as for `describe`.

        Returns:
            A text for each.

        Raises:
            UserError: one cannot be read, which is found before the first is described.
        """
        self._needs('describe')
        for file in files[self.config.batch_size :]:  # what comes before is read before all else
            self.prepare(file)

        def read(rows: np.ndarray) -> dict[str, np.ndarray]:
            examples = {row: self.prepare(files[row])[0] for row in set(rows.tolist())}
            return {'examples': np.stack([examples[row] for row in rows.tolist()])}

        labels = self._labels(len(files), None, needed=False)
        tokens = self._sampled(
            self.task.describe, len(files), labels, seed, sampling, read, progress=progress
        )
        return texts_of(tokens, self.task.texts.spec.tokens)

    def image_to_image(
        self,
        examples: Array,
        strength: float,
        label: Label = None,
        seed: int = 0,
        *,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Adds noise to examples, images or others, and takes it out again, with a diffusion model.

        The strength is from 0, which changes next to nothing, to 1, which leaves nothing of the examples; the
        label is the class to come to. All else, and what is returned, is as for `inpaint`.
        """
        self._needs('image_to_image')
        if not isinstance(strength, numbers.Real) or not 0 <= on_device('the strength', strength) <= 1:
            raise UserError(f'the strength is {strength!r}; give a number from 0 to 1.')
        given = {'images': self._checked(examples)}
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        return self._edit(
            self.task.image_to_image, given, label, asked, seed, progress, sampling, strength=strength
        )

    def denoise(
        self,
        examples: Array,
        sigma: float,
        label: Label = None,
        seed: int = 0,
        *,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Takes normal noise out of examples, with a diffusion model of them and not of latents.

        Sigma is the standard deviation of the noise, in steps of their integers: of images, grey levels out
        of 255. One step of the sampler 'ddim' gives the example of least squared error. All else, and what is
        returned, is as for `inpaint`.
        """
        self._needs('denoise')
        if not isinstance(sigma, numbers.Real) or not on_device('sigma', sigma) > 0:
            unit = 'grey levels' if self.spec.dtype == np.uint8 else 'steps of int16'
            raise UserError(f'sigma is {sigma!r}; give a number of {unit} above 0.')
        given = {'images': self._checked(examples)}
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        return self._edit(self.task.denoise, given, label, asked, seed, progress, sampling, sigma=sigma)

    def upscale(
        self,
        images: Array,
        label: Label = None,
        seed: int = 0,
        *,
        text: Text = None,
        negative_text: Text = None,
        conditions: Conditions = None,
        progress: bool = False,
        **sampling: Any,
    ) -> np.ndarray:
        """Makes large images, uint8 [b h w c], of small ones, with a diffusion model trained for it.

        The images are uint8 [b h/f w/f c], f being the `config.model.upscale` of the run. All else is as for
        `inpaint`.
        """
        self._needs('upscale')
        given = {'small': checked_examples(images, self.spec)}
        asked = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
        return self._edit(self.task.upscale, given, label, asked, seed, progress, sampling)

    def prepare(
        self, file: Any, mask: Any = None, *, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Brings an example, and a mask for `inpaint`, to what the model takes, as its data were.

        Args:
            file: the path or the content of a file; or an image of Pillow or an array, uint8 [h w] or
                [h w c]; of sound a recording (WAV, FLAC, Ogg, MP3), or an array of the model's
                rate, int16 [t] or [t c]; of video a film (MP4, WebM, GIF and others), a folder of its
                frames, or an array of the model's rate, uint8 [t h w c]; of text a text file, or tokens,
                int32 [t].
            mask: of an image, the same for one of the same size, white where it is to be sampled anew, or
                bool [h w], True there. Of a video, an image or a video of its size, white where all frames,
                or each of as many, are sampled anew; or an array, bool or uint8 [h w] or [t h w]. Sounds and
                texts have none here.
            whole: leave its size or length as it is, whatever the model was trained on; of a sound, rate and
                channels are still those of the model, and of a video all but its length.

        Returns:
            An example as `spec` says, or if it is whole of another size, and bool [h w], or [t h w] of video,
            if there is a mask.

        Raises:
            UserError: if it cannot be read, or be brought to that.
        """
        config = build(DataConfig, self.config.data, 'data')
        return TRANSFORMS[self.spec.kind].prepare(file, mask, self.spec, config, whole)

    def log_prob(
        self, codes: Codes, label: Label = None, *, text: Text = None, conditions: Conditions = None
    ) -> jax.Array:
        """The log-likelihood of codes, as `encode` makes them, under a prior in nats, float32 [b].

        Of a prior of a finer scale, given the coarser one. The codes are as many as `encode` makes of an
        example. A masked prior has no likelihood, and raises `UserError`.
        """
        self._needs('log_probability')
        codes = checked_codes(codes, self._encoded, self.task.vocabularies)
        check_whole_grids(codes, self._encoded)
        n = len(jax.tree.leaves(codes)[0])
        given = self._conditions(n, text=text, conditions=conditions)
        probability = self._jit(self.task.log_probability)
        return probability(self.state, self._with_depth(codes), self._labels(n, label), **given)

    def labels(self, n: int, label: Label) -> np.ndarray | None:
        """Checked classes for n examples, int32 [n]; None if the model is not conditioned on any."""
        return checked_labels(n, label, self.task.num_labels, self.class_names)

    def interpolate(
        self,
        a: np.ndarray,
        b: np.ndarray,
        n: int = 8,
        label: Label = None,
        *,
        text: Text = None,
        conditions: Conditions = None,
        **sampling: Any,
    ) -> jax.Array:
        """Examples on the way from one to another.

        Through the latents of a VAE or KL autoencoder, or the noise of which a diffusion model makes them.

        Args:
            a: where to begin, as `spec` says.
            b: where to end, alike.
            n: how many, both ends included, up to 1,024: all are made at once.
            label: as for `decode`.
            text: as for `sample`.
            conditions: as for `sample`.
            **sampling: as for `sample`.

        Returns:
            [n ...] as `spec` says.
        """
        names = self.spec.plural
        check_number(n, least=2, most=_MOST_BETWEEN, what=names)
        a, b = as_array(a, names), as_array(b, names)
        if a.shape != b.shape:
            raise UserError(f'interpolation is between {names} of one shape, not of {a.shape} and {b.shape}.')
        ends = self._checked(np.stack([a, b]))
        given = self._conditions(n, text=text, conditions=conditions)
        if isinstance(self.task, Edits):
            labels = self._labels(n, label)
            options = self._batched_sampler.sampling('interpolate', sampling) or self.task.sampling
            between = self._jit(self.task.interpolate, static_argnames=('n', 'sampling'))
            return between(self.state, *ends, n=n, labels=labels, sampling=options, **given)
        if not isinstance(self.task, Encodes):
            raise UserError(
                f'a run of the task {self.config.task} cannot interpolate between {names}; one of vae or '
                'diffusion can.'
            )
        if not isinstance(self.task, AutoencoderTask) or self.task.vocabularies:
            raise UserError(f'a run of the task {self.config.task} has codes, between which nothing lies.')
        self._batched_sampler.sampling('interpolate', sampling)  # of which such a run has none
        ends = self.encode(ends)
        share = jnp.linspace(0, 1, n).reshape(-1, *[1] * (ends.ndim - 1))
        return self.decode((1 - share) * ends[0] + share * ends[1], label)

    def classify(self, examples: Array) -> jax.Array:
        """How probable each class seems to a classifier, float32 [b k], of examples [b ...].

        Column i is of the class `class_names[i]`.
        """
        self._needs('classify')
        return jax.nn.softmax(self._jit(self.task.classify)(self.state, self._checked(examples)).logits)

    def anomaly_score(self, examples: Array) -> jax.Array:
        """How surprising each example is to a VAE: the negative evidence lower bound.

        Args:
            examples: [b ...] as `spec` says.

        Returns:
            Nats, float32 [b]; the greater, the less the example is like those of the training data.
        """
        if not isinstance(self.task, VAETask):
            raise UserError(
                f'a run of the task {self.config.task} gives no likelihood of {self.spec.plural} one by one, '
                'as one of vae does; log_prob of a prior gives that of codes, and evaluate the bound of a '
                'diffusion model of pixels over a split.'
            )
        return -self._jit(self._elbo)(self.state, self._checked(examples))

    def evaluate(self, split: str | None = None, *, progress: bool = False) -> Evaluation:
        """Metrics and media over a split of the run's data set, by default its `eval_split`.

        Args:
            split: of the data set.
            progress: show a bar.
        """
        engine = make_engine(build(ParallelConfig, self.config.parallel, 'parallel'), self.config.batch_size)
        dataset = self.dataset(split or self.config.data.eval_split)
        if self.task.classes_read:
            check_class_names(self.class_names, dataset, f'the run {self._restored.workdir}')
        self.task.check_dataset(dataset)
        evaluator = MeanEvaluator(self.task, engine, dataset, self.config.batch_size, self.config.num_shown)
        pretrained = self.task.pretrained()
        if self.task.reads_published:
            check_published(self._restored.workdir, fingerprint(pretrained))
        state = self.state.replace(frozen=pretrained)
        return evaluator.run(engine.put_state(state), progress=progress)

    def compare(
        self,
        features: str,
        split: str | None = None,
        num: int = 10_000,
        seed: int = 0,
        *,
        resize: Resize | None = None,
        reference: str | Path | None = None,
        lpips: Sequence[str] | None = None,
        real: str | None = None,
    ) -> dict[str, Any]:
        """Compares samples and reconstructions with the data, in the features of a frozen network.

        Args:
            features: 'inception' (of images: FID, KID and others; weights are found or downloaded),
                'inception:FILE', 'i3d:FILE' (of videos: FVD), or the directory of a run of the task
                classifier.
            split: of the run's data set, by default its `eval_split`.
            num: how many samples to make; reconstructions are of the whole split.
            seed: of the samples.
            resize: how Inception-v3 is given its 299x299 pixels: 'bilinear' (the default) as pytorch-fid
                does, 'clean' as clean-fid does.
            reference: an .npz file of statistics of the split, written if it is not there.
            lpips: measures reconstructions of images with LPIPS too; files of VGG-16 and of the heads, or an
                empty list for the published ones, which are found or downloaded.
            real: another split, whose examples are compared too, as if they were samples: the floor.

        Returns:
            What was compared and how, in JSON values, and as far as the run makes them 'samples',
            'reconstructions' and, of a decoder that is conditioned on classes, 'conversions', of each
            example to another class than its own, and 'real'; each with its 'metrics'. The accuracy of a
            classifier is that of the class that was decoded or sampled, or, if it tells apart other classes
            of the same data, as by another `config.data.name_pattern`, of what the example was, or that
            whose conditions the sample was given.
        """
        split = split or self.config.data.eval_split
        file = None if reference is None else Path(reference)
        with allowing(self._restored.allow):
            source = open_features(features, resize, self._restored)
        return FeatureEvaluator(self._restored, source, split, file, lpips, real).run(num, seed)

    def retrieve(
        self, retrieval: str, split: str | None = None, num: int = 10_000, seed: int = 0
    ) -> dict[str, Any]:
        """Measures how often a dual encoder finds the right text of samples, and of real examples, among 100.

        The other 99 are different texts of the same split, at random. The numbers compare only with those of
        the same dual encoder, whose checksum stands beside them: they are no CLIP score.

        Args:
            retrieval: the directory of a run of the task dual_encoder, on the same data.
            split: of the run's data set, by default its `eval_split`.
            num: of how many examples at most, with a sample of the text of each.
            seed: of the samples, and of the texts among which each is looked for.

        Returns:
            What was measured and how, in JSON values. 'real' and, of a run that samples, 'samples' have
            'recall_at_1' and 'recall_at_5', how often the right text is the first, or among the first five;
            'shuffled' has the same of real examples and of a text that is not theirs, which guesses: about
            0.01 and 0.05.
        """
        split = split or self.config.data.eval_split
        with allowing(self._restored.allow):
            encoder = restore(retrieval, allow=self._restored.allow)
        return RetrievalEvaluator(self._restored, encoder, split).run(num, seed)

    def measure_sound(
        self, split: str | None = None, *, depths: int | None = None, progress: bool = False
    ) -> dict[str, Any]:
        """Measures how well, and at what bit rate and speed, a run codes the sounds of a split.

        Args:
            split: of the run's data set, by default its `eval_split`.
            depths: use the first so many codes of each position alone, which residual quantization can.
            progress: show a bar.

        Returns:
            What was measured and how, in JSON values. Of 'metrics', 'snr' and 'si_sdr' are in decibels, the
            distances those of `vq_jax.ops.spectral_distances`; 'bit_rate' and 'bit_rate_entropy' are kilobits
            a second, if all codes cost alike and by the entropy of each depth over the split; 'pesq_nb' or
            'pesq_wb', and 'stoi', need the packages of `vq_jax[speech]`, and 'without_score' says how many
            sounds have none; the real-time factors are seconds of sound that are encoded or decoded in one,
            in batches on one device.
        """
        split = split or self.config.data.eval_split
        return SoundEvaluator(self._restored, split, depths).run(progress=progress)

    def measure_video(
        self,
        split: str | None = None,
        *,
        given: int | Sequence[int] | None = None,
        seed: int = 0,
        lpips: Sequence[str] | None = None,
        progress: bool = False,
    ) -> dict[str, Any]:
        """Measures frames that a run makes against those of the videos of a split, frame by frame.

        Of an autoencoder all frames are rebuilt. A prior or a diffusion model is given the first frames, or
        the first and the last, and samples the others once, of the classes and conditions of the split.

        Args:
            split: of the run's data set, by default its `eval_split`.
            given: to a prior or a diffusion model, how many of the first frames, such as 4, or of the
                first and of the last, such as (1, 1).
            seed: of what is sampled.
            lpips: as for `compare`.
            progress: show a bar.

        Returns:
            What was measured and how, in JSON values. 'frames' are the numbers, from 0, of those that are
            measured. 'reconstructions' (of a prior, by the codec that it is built on), 'predictions' or, if
            last frames are given, 'interpolations' have 'metrics' and 'curves', the metrics of each frame.
            So have what needs no model: 'copies' of the last of the first frames that are given, and in
            interpolation 'blends', which go over from this frame to the one after the gap in equal steps.
            'squared_error' is the sum over the values of a frame of squared differences in [0, 1], published
            for Moving MNIST as MSE.
        """
        split = split or self.config.data.eval_split
        return VideoEvaluator(self._restored, split, given, lpips).run(seed, progress=progress)

    def dataset(self, split: str) -> Dataset:
        """A split of the run's data set, preprocessed as in training."""
        if not isinstance(split, str):
            raise UserError(f"the split is {split!r}; give a text such as 'test' or 'train[:1000]'.")
        with allowing(self._restored.allow):
            return open_dataset(build(DataConfig, self.config.data, 'data'), split, tokens=self.spec.tokens)

    @functools.cached_property
    def _encoded(self) -> Any:
        """Shapes and types of what `encode` returns for one example."""

        def encode(state: State, examples: jax.Array) -> Any:
            return self._plain(self.task.encode(state, examples))

        return jax.eval_shape(encode, self.state, abstract_examples(1, self.spec))

    def _exported(self, method: Exported, sampling: Mapping[str, Any]) -> tuple[Any, ...]:
        """A method as a function of arrays alone, and the shapes and types of these for one example."""
        self._needs('encode' if method == 'reconstruct' else method, f'{method} {self.spec.plural}')
        if sampling and method != 'sample':
            raise UserError(f'{", ".join(sampling)} is for sample; leave it out to export {method}.')
        task, state = self.task, self.state
        examples, integers = abstract_examples(1, self.spec), jax.ShapeDtypeStruct((1,), np.int32)

        def encode(examples: jax.Array) -> Any:
            return self._plain(task.encode(state, examples))

        def decode(codes: Any, labels: Any = _NO_CLASSES) -> jax.Array:
            return task.decode(state, self._with_depth(codes), labels)

        def reconstruct(examples: jax.Array, labels: Any = _NO_CLASSES) -> jax.Array:
            return decode(encode(examples), labels)

        if method == 'encode':
            return encode, examples
        if method != 'sample':
            function, given = (decode, self._encoded) if method == 'decode' else (reconstruct, examples)
            return function, given, *([integers] if task.decoder_labels else [])
        if task.conditioner is not None:
            raise UserError(
                f'sample cannot be exported of a model that is given {" and ".join(task.condition_specs)}, '
                'which it takes vq_jax to prepare; decode can be, of the run that it is built on.'
            )
        chosen = self._batched_sampler.sampling('sample', sampling)
        options = {} if chosen is None else {'sampling': chosen}

        def sample(seed: jax.Array, numbers: jax.Array, labels: Any = _NO_CLASSES) -> jax.Array:
            return task.sample(state, sample_keys(seed[None], numbers), labels, **options)

        labels = [integers] if task.num_labels else []
        return sample, jax.ShapeDtypeStruct((), np.int32), integers, *labels

    @functools.cached_property
    def _batched_sampler(self) -> BatchedSampler:
        return BatchedSampler(self.task, self.state, self.config)

    def _places(self, examples: Array) -> tuple[int, ...]:
        """The shape of what masks are of, [b *grid]."""
        return examples.shape[: 1 + self.spec.rank]

    def _edit(
        self,
        method: Callable[..., jax.Array],
        given: Mapping[str, np.ndarray],
        label: Label,
        asked: Mapping[str, Any],
        seed: int,
        progress: bool,
        sampling: dict[str, Any],
        **constants: float,
    ) -> np.ndarray:
        """Makes examples of others, by a method of the task; what is asked are arguments of `_conditions`."""
        n = len(next(iter(given.values())))
        labels = self._labels(n, label)
        given = {**given, **self._conditions(n, **asked, sampling=sampling)}
        return self._sampled(method, n, labels, seed, sampling, given, constants, progress=progress)

    def _sampled(
        self, method: Callable[..., jax.Array], n: int, *arguments: Any, **options: Any
    ) -> np.ndarray:
        """All samples at once, [n ...], of which `BatchedSampler.batches` gives one batch after the other."""
        return np.concatenate(list(self._batched_sampler.batches(method, n, *arguments, **options)))[:n]

    def _decodable(
        self, codes: Codes, label: Label, depths: int | None, scales: int | None = None
    ) -> tuple[tuple[Array, ...], np.ndarray]:
        """What the task decodes, of what `decode` is given: codes of the scales, and classes int32 [b]."""
        own = isinstance(self.task, AutoencoderTask)
        fewer, fewer_scales = (self.task.decodable, self.task.decodable_scales) if own else (None, None)
        if scales is not None:
            codes = first_scales(codes, scales, self.task.vocabularies, fewer_scales)
        codes = checked_codes(codes, self._encoded, self.task.vocabularies, fewer, fewer_scales)
        if depths is not None:
            codes = first_depths(codes, depths, self.task.vocabularies, fewer)
        codes = self._with_depth(codes)
        return codes, self._labels(len(codes[0]), label, needed=self.task.decoder_labels > 0)

    def _labels(self, n: int, label: Label, *, needed: bool = True) -> np.ndarray:
        """As `labels`, which may have to be given; zeros for a model that is not conditioned on any."""
        if needed and self.task.num_labels and label is None:
            raise UserError('this model is conditioned on classes; give a label, one for all or for each.')
        labels = self.labels(n, label)
        return np.zeros(n, np.int32) if labels is None else labels

    def _conditions(
        self,
        n: int,
        text: Text,
        conditions: Conditions,
        negative_text: Text = None,
        sampling: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, dict[str, np.ndarray]]:
        """The argument of the task for conditions of n examples, each [n ...]; empty if it has none.

        A text is the condition of that name. What it is to lean away from has to be met by guidance, as
        changes to the section 'sampling' or the config say.
        """
        conditioner = self.task.conditioner
        if conditioner is None:
            given = {'text': text, 'negative_text': negative_text, 'conditions': conditions}
            if unread := [name for name, value in given.items() if value is not None]:
                raise UserError(
                    f'this model is conditioned on {"classes alone" if self.task.num_labels else "nothing"}; '
                    f'leave {unread[0]} out.'
                )
            return {}
        if isinstance(conditions, Mapping | None):
            each = [conditions or {}] * n
        elif len(each := list(conditions)) != n or not all(isinstance(one, Mapping) for one in each):
            raise UserError(f'conditions must be a dict, or one for each of {n} examples.')
        if text is not None:
            each = [{**one, 'text': of_it} for one, of_it in zip(each, _texts(n, text), strict=True)]
        ready = _prepared(conditioner, each)
        if negative_text is not None:
            guidance = {**self.config.get('sampling', {}), **sampling}.get('guidance', 1)
            if guidance == 1:
                raise UserError(
                    'negative_text changes nothing at a guidance of 1, the model itself; set guidance above '
                    '1, such as 3, or leave it out.'
                )
            others = _texts(n, negative_text)
            each = [{**one, 'text': of_it} for one, of_it in zip(each, others, strict=True)]
            ready |= {NEGATIVE + name: x for name, x in _prepared(conditioner, each).items()}
        return {'conditions': ready}

    def _elbo(self, state: State, examples: jax.Array) -> jax.Array:
        batch = {'x': examples, 'label': jnp.zeros(len(examples), jnp.int32)}
        return self.task.eval_step(state, batch)['elbo']

    def _needs(self, method: str, ability: str | None = None) -> None:
        check_can(self.config.task, self.task, self.spec, method, ability)

    def _checked(self, examples: Array) -> Array:
        examples = checked_examples(examples, self.spec)
        self.task.check_spec(dataclasses.replace(self.spec, shape=examples.shape[1:]))
        return examples

    def _plain(self, codes: Any) -> Any:
        """Codes without the axes of depths, and tuples of scales, of length one."""
        if not self.task.vocabularies:
            return codes[0]
        depths = map(len, self.task.vocabularies)
        plain = [x[..., 0] if depth == 1 else x for x, depth in zip(codes, depths, strict=True)]
        return tuple(plain) if len(plain) > 1 else plain[0]

    def _with_depth(self, codes: Any) -> Any:
        """The other way round."""
        scales = codes if isinstance(codes, tuple) else (codes,)
        if not self.task.vocabularies:
            return scales
        depths = map(len, self.task.vocabularies)
        scales = zip(scales, depths, strict=False)  # or the first scales alone
        return tuple(x[..., None] if depth == 1 else x for x, depth in scales)


def _is_row(text: Any) -> bool:
    """Whether there are several texts."""
    return isinstance(text, Sequence | np.ndarray) and not isinstance(text, str)


def _texts(n: int, text: str | Sequence[str]) -> list[str]:
    """A text for each of n examples."""
    texts = list(text) if _is_row(text) else [text] * n
    if len(texts) != n:
        raise UserError(f'there are {len(texts)} texts; give one, or one for each of {n} examples.')
    return texts


def _prepared(conditioner: Conditioner, each: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The conditions of examples, each [n ...], of what users give of each."""
    ready = [prepared(conditioner, one) for one in each]
    return {name: np.stack([one[name] for one in ready]) for name in ready[0]}


class Stream:
    """A sound or video, or several at once, encoded or decoded one chunk after the other (see `Run.stream`).

    What comes out, chunk after chunk, is that of the whole but for rounding, which may choose another of two
    codes that are all but equally near. Encoding and decoding do not wait for each other, and either can be
    done alone. Each length of chunks is compiled once: let them be of one. The first frame of a video has
    codes of its own, so that its first chunk is one frame longer, or is that frame.

    Attributes:
        hop: samples or frames of a position of codes; chunks have a multiple of it, and the first of a video
            one frame more.
        latency: samples or frames that must have come in before the first of them can be decoded: those of a
            position, since nothing looks further ahead.
        latency_ms: the same in milliseconds; None if the rate is not known.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        state = run.state.for_inference()
        self._state = state.replace(params=fold_weight_norm(state.params))
        self._past: dict[str, Any] = {}
        self._examples: dict[str, int] = {}
        self.hop = run.task.factors[0]
        self.latency = self.hop
        self.latency_ms = 1000 * self.latency / run.spec.rate if run.spec.rate else None

    def encode(self, chunk: Array) -> jax.Array:
        """The codes or latents of the next chunk, as `Run.encode` gives them.

        Args:
            chunk: as the spec says, [b n ...], n a multiple of `hop`, and of the first chunk of a video one
                more; b as in the chunks before.
        """
        run = self._run
        chunk = checked_examples(chunk, run.spec)
        length, apart = chunk.shape[1], run.task.first_apart and 'encode' not in self._past
        if (length - apart) % self.hop or chunk.shape[-1] != run.spec.channels:
            is_sound, more = run.spec.kind == 'audio', ' and one more' if apart else ''
            unit, end = ('samples', 'zeros') if is_sound else ('frames', 'the last one again')
            raise UserError(
                f'the chunk has {length:,} {unit} in {plural(chunk.shape[-1], "channel")}; give a multiple '
                f'of {self.hop}{more}, with {end} after the end, in {run.spec.channels}.'
            )
        whole = (length - apart + run.task.first_apart, *chunk.shape[2:])
        run.task.check_spec(dataclasses.replace(run.spec, shape=whole))
        return run._plain(self._next('encode', run.task.encode_chunk, chunk))

    def decode(self, codes: Codes, label: Label = None, *, depths: int | None = None) -> jax.Array:
        """The next chunk, as the spec says, of its codes; the arguments are those of `Run.decode`."""
        return self._next('decode', self._run.task.decode_chunk, *self._run._decodable(codes, label, depths))

    def _next(self, way: str, method: Callable[..., tuple[Any, Any]], x: Any, *labels: np.ndarray) -> Any:
        """What a method of the task makes of the next chunk, whose past is kept for the one after it."""
        n = len(jax.tree.leaves(x)[0])
        if n != self._examples.setdefault(way, n):
            raise UserError(
                f'this chunk is of {n}, and those before were of {self._examples[way]}; begin another stream.'
            )
        past = self._past.get(way, {})
        if not past and not self._run.task.first_apart:
            # Silence, so that the first chunk needs no program of its own.
            _, shapes = jax.eval_shape(method, self._state, {}, x, *labels)
            past = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        made, self._past[way] = self._run._jit(method)(self._state, past, x, *labels)
        return made
