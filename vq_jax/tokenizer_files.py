"""What the steps of a tokenizer.json of a stranger's may do to texts: no more than is bounded beforehand.

The package `tokenizers` does whatever a file says: twenty steps that write 'aa' for 'a' make a million
letters of one, and its regular expressions try all ways in which a text might match.
"""

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from vq_jax.errors import UserError

_MOST_GROWTH = 4096  # of a text, by all steps from it to tokens, or back
_MOST_STEPS = 64  # of a kind
_MOST_WAYS = 1024  # in which a regular expression may match where it begins, but for how often it repeats
_MOST_REPEATS = 2  # without a bound, one after another: the time grows with that power of a text's length
_FEW = 16  # repeats up to which a bound is one

_ADVICE = 'give a tokenizer.json that keeps texts as they are, such as a byte-level one'

# How many times as long each known step may make a text, in bytes of UTF-8; of Unicode's normal forms as its
# FAQ on normalization says. Steps that are not here have a rule of their own.
_GROWTH: dict[str, dict[str, int]] = {
    'normalizer': {
        'BertNormalizer': 12,
        'ByteLevel': 2,
        'Lowercase': 2,
        'NFC': 3,
        'NFD': 3,
        'NFKC': 11,
        'NFKD': 11,
        'Nmt': 1,
        'Strip': 1,
        'StripAccents': 1,
    },
    'pre_tokenizer': {
        'BertPreTokenizer': 1,
        'ByteLevel': 4,
        'CharDelimiterSplit': 1,
        'Digits': 1,
        'FixedLength': 1,
        'Metaspace': 5,
        'Punctuation': 1,
        'Split': 1,
        'UnicodeScripts': 1,
        'Whitespace': 1,
        'WhitespaceSplit': 1,
    },
    'post_processor': {'BertProcessing': 3, 'ByteLevel': 1, 'RobertaProcessing': 3},
    'decoder': {
        'BPEDecoder': 2,
        'ByteFallback': 3,
        'ByteLevel': 3,
        'CTC': 1,
        'Fuse': 1,
        'Metaspace': 1,
        'Strip': 1,
        'WordPiece': 2,
    },
}
_PARTS = ('normalizers', 'pretokenizers', 'processors', 'decoders')  # of a 'Sequence'


def check_steps(content: Any) -> None:
    """Checks what a tokenizer.json does to texts before and after its model; what it is, the package checks.

    Args:
        content: of the file, as JSON has it.

    Raises:
        UserError: A step is not known, may make texts much longer, or has a regular expression that may take
            very long.
    """
    growth = 1
    for kind, known in _GROWTH.items():
        count = 0
        if kind == 'decoder':  # which is the way back
            growth = 1
        for step in _steps(content.get(kind) if isinstance(content, dict) else None):
            name, count = step.get('type'), count + 1
            growth *= _growth(step, known)
            if growth > _MOST_GROWTH or count > _MOST_STEPS:
                told = f'make texts more than {_MOST_GROWTH:,} times as long'
                if count > _MOST_STEPS:
                    told = f'are more than {_MOST_STEPS}'
                raise UserError(f'The steps of the text tokenizer (its {kind}) {told}; {_ADVICE}.')
            pattern = step.get('pattern')
            expression = pattern.get('Regex') if isinstance(pattern, dict) else None
            if isinstance(expression, str) and name in ('Replace', 'Split'):
                _check_expression(expression)


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a part of the file in their order, those of sequences in sequences too."""
    left = [part]
    while left:
        step = left.pop()
        if not isinstance(step, dict):  # None, or what the package refuses
            continue
        if step.get('type') == 'Sequence':
            inner = next((step[name] for name in _PARTS if isinstance(step.get(name), list)), [])
            left.extend(reversed(inner))
        else:
            yield step


def _growth(step: dict[str, Any], known: dict[str, int]) -> int:
    """How many times as long a step may make a text."""
    name, content, pattern = step.get('type'), step.get('content'), step.get('pattern')
    if name == 'Replace':
        given = pattern.get('String') if isinstance(pattern, dict) else None
        written, searched = _bytes(content), _bytes(given)
        # What finds nothing between two characters is written between all of them.
        return max(1, math.ceil(written / searched)) if searched else 1 + written
    if name == 'Prepend':
        return 1 + _bytes(step.get('prepend'))
    if name == 'Precompiled':
        return _longest(step.get('precompiled_charsmap'))
    if name == 'TemplateProcessing':
        single, marks = step.get('single'), step.get('special_tokens')
        marks = marks.values() if isinstance(marks, dict) else ()
        ids = [len(mark['ids']) for mark in marks if isinstance(mark, dict) and _is_list(mark.get('ids'))]
        return max(1, len(single) if _is_list(single) else 1) * max(1, *ids, 1)
    if name not in known:
        raise UserError(
            f'The text tokenizer has the step {str(name)[:40]!r}, and what that makes of texts is not known '
            f'here; {_ADVICE}.'
        )
    return known[name]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _bytes(text: Any) -> int:
    """How many bytes of UTF-8 a text has at most; 0 of what is none, which the package refuses."""
    return len(text.encode(errors='surrogatepass')) if isinstance(text, str) else 0


def _longest(charsmap: Any) -> int:
    """The most bytes that SentencePiece's map writes for a character: a trie, and texts that end with 0."""
    try:
        content = base64.b64decode(charsmap)
    except (TypeError, ValueError, binascii.Error):  # which the package refuses
        return 1
    texts = content[4 + int.from_bytes(content[:4], 'little') :].split(b'\0')
    return max(1, *map(len, texts))


@dataclasses.dataclass
class _Group:
    """What was read of a group of a regular expression.

    Attributes:
        ways: in which the alternatives before this one may match.
        here: in which this alternative may.
        repeats: without a bound, the most of an alternative before this one.
        repeats_here: of this one.
        plain: whether there is nothing in it to choose.
    """

    ways: int = 0
    here: int = 1
    repeats: int = 0
    repeats_here: int = 0
    plain: bool = True

    def close_alternative(self) -> None:
        """Ends an alternative."""
        self.ways, self.here = self.ways + self.here, 1
        self.repeats, self.repeats_here = max(self.repeats, self.repeats_here), 0


_QUANTIFIER = re.compile(r'[*+?]|\{(\d*)(,?)(\d*)\}')
_ESCAPE = re.compile(r'\\(?:[pPx]\{[^}]*\}|.)', re.DOTALL)
_REFERENCE = re.compile(r'\\[1-9kg]')
_CONTROL = 'cCM'  # of which, after a backslash, what follows is part, whatever it is
# Groups that capture or not, look ahead or behind, give nothing back, or set options but 'x', by which the
# rest is to be read in another way. Options without a colon make a group of all that follows, alternatives
# too, which changes nothing where the expression begins.
_OPENING = re.compile(r'\((?:\?(?:[:=!>]|<[=!]|<\w+>|[imasud-]+[:)])|(?![?*]))')


def _check_expression(expression: str) -> None:
    """Raises `UserError` unless a regular expression takes a time that is a low power of a text's length."""
    reason = _slow(expression)
    if reason:
        raise UserError(
            f'The text tokenizer has the regular expression {expression[:60]!r}, which {reason} and so may '
            f'take very long; {_ADVICE}.'
        )


def _slow(expression: str) -> str | None:
    """Why a regular expression of Oniguruma may take very long; None if it may not.

    What is no regular expression is left to the package.
    """
    if any(found[0][1] in _CONTROL for found in _ESCAPE.finditer(expression)):
        return 'has an escape that is not known here'
    groups, atom, i = [_Group()], None, 0  # of an atom, the group that it is; None where there is none
    while i < len(expression):
        at, group = expression[i], groups[-1]
        if at == '\\':
            if _REFERENCE.match(expression, i):
                return 'refers to what it has found'
            found = _ESCAPE.match(expression, i)
            i, atom = (found.end() if found else i + 1), _Group()
        elif at == '[':
            i, atom = _after_class(expression, i), _Group()
        elif at == '(':
            found = _OPENING.match(expression, i)
            if not found or (i and found[0].endswith(')')):
                return 'has a group that is not known here'
            i, atom = found.end(), None
            if not found[0].endswith(')'):
                groups.append(_Group())
        elif at == ')' and len(groups) > 1:
            group.close_alternative()
            atom, i = groups.pop(), i + 1
            groups[-1].here *= atom.ways
            groups[-1].repeats_here += atom.repeats
            groups[-1].plain &= atom.plain
        elif at == '|':
            group.close_alternative()
            group.plain, atom, i = False, None, i + 1
        elif found := _QUANTIFIER.match(expression, i):
            if atom is None:
                return 'repeats what is repeated already'
            least, most = _bounds(found)
            if most > 1 and not atom.plain:
                return 'repeats what may match in several ways'
            if most > _FEW:
                group.repeats_here += 1
            elif most > least:
                group.here *= most - least + 1
            group.plain, atom, i = False, None, found.end()
            if least == most and expression[i : i + 1] == '?':  # so often or not at all
                group.here *= 2
            # Lazy, or giving nothing back; of {2,3}+ the latter is a repeat of its own.
            if expression[i : i + 1] == '?' or (expression[i : i + 1] == '+' and found[0] in '*+?'):
                i += 1
        else:
            i, atom = i + 1, _Group()
        total = groups[-1]
        if total.ways + total.here > _MOST_WAYS:
            return f'may match in more than {_MOST_WAYS:,} ways'
        if total.repeats_here > _MOST_REPEATS:
            return f'repeats more than {_MOST_REPEATS} parts without a bound'
    return None


def _bounds(quantifier: re.Match[str]) -> tuple[int, float]:
    """The least and the most times."""
    if quantifier[0] in '*+?':
        return int(quantifier[0] == '+'), 1 if quantifier[0] == '?' else math.inf
    least, comma, most = quantifier.groups()
    low = int(least or 0)
    return low, low if not comma else int(most) if most else math.inf


def _after_class(expression: str, i: int) -> int:
    """Where the class of characters ends that begins at i, with those in it."""
    depth = 0
    while i < len(expression):
        if expression[i] == '\\':
            i += 1
        elif expression[i] == '[':
            depth += 1
            i += expression[i + 1 : i + 2] == '^'
            i += expression[i + 1 : i + 2] == ']'  # which is one of them where it comes first
        elif expression[i] == ']':
            depth -= 1
            if not depth:
                return i + 1
        i += 1
    return i
