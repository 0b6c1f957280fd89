"""Which texts hold the words of a query best: BM25 over an inverted index.

Written out because no library fits: rank-bm25 has had no release since 2022 and goes through every text at each query,
and bm25s builds sparse matrices for collections that are larger by orders of magnitude than the lines of a film.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

_SATURATION = 1.2
"""k1 and b of BM25, as usual (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009)."""
_LENGTH = 0.75

# Chinese and Japanese put no blanks between words: there each character counts as one.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+(?:['\u2019](?:(?![{_ALONE}])\w)+)*")


def words_of(text: str) -> list[str]:
    """The words of a text, without capitals and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in plain if not unicodedata.combining(character))
    return _WORD.findall(unicodedata.normalize("NFKC", bare).replace("\u2019", "'"))


class WordIndex:
    """Texts by the words in them; immutable.

    Args:
        texts: The texts; they are known by their number, which counts from 0.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths: list[int] = []
        for number, text in enumerate(texts):
            words = Counter(words_of(text))
            self._lengths.append(words.total())
            for word, count in words.items():
                self._places[word].append((number, count))
        self._mean = sum(self._lengths) / max(1, len(self._lengths)) or 1.0

    def search(self, query: str, *, k: int, start: int = 0, end: int | None = None) -> list[int]:
        """Numbers of the best texts that hold a word of the query, the best one first; of equal ones the earlier.

        Args:
            query: Words; capitals and accents make no difference.
            k: Texts at the most.
            start: First text that may be found.
            end: Text after the last one that may be found; None for all.
        """
        end = len(self._lengths) if end is None else end
        scores: dict[int, float] = defaultdict(float)
        for word in dict.fromkeys(words_of(query)):
            places = self._places.get(word, [])
            rarity = math.log(1 + (len(self._lengths) - len(places) + 0.5) / (len(places) + 0.5))
            for number, count in places:
                if start <= number < end:
                    length = 1 - _LENGTH + _LENGTH * self._lengths[number] / self._mean
                    scores[number] += rarity * count * (_SATURATION + 1) / (count + _SATURATION * length)
        return sorted(scores, key=lambda number: (-scores[number], number))[:k]
