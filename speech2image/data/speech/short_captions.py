"""Short captions: brief spoken forms of a caption, by rule: "a red flower", "yellow petals".

A caption is searched for phrases of words before a noun that hold a colour ("deep golden *orange petals*").
What is said of the whole (petals count as the flower) gives the main colours; everything said in a short form
is said in its caption. Some forms are commands ("show me ..."), some hesitate ("uh ... please").
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from speech2image.data.corpora.transcribed import words_of
from speech2image.data.entries import Entry


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_COLOURS = _words(
    "white whitish cream creamy ivory grey gray greyish grayish silver slate black blackish brown "
    "brownish tan buff chestnut red reddish scarlet crimson maroon orange apricot peach amber rusty "
    "yellow yellowish golden gold lemon green greenish olive lime blue bluish turquoise purple purplish "
    "violet lavender lilac mauve pink pinkish magenta rose salmon coral"
)
_SHADES = _words(
    "pale light dark deep bright soft rich vivid strong warm dusty dull muted big small large little tiny "
    "tall long short thin wide round rounded glossy fluffy plump slim burnt sky hot"
)
_WHOLES = {
    "flower": _words("flower flowers bloom blooms blossom blossoms petal petals florets trumpet trumpets"),
    "bird": _words("bird birds seabird seabirds body plumage"),
    "room": _words("room rooms bedroom bedrooms kitchen kitchens kitchenette wall walls"),
}
_PARTS = _words(
    "centre centres center centers middle heart eye eyes throat disc cone dome stamen stamens pistil "
    "filaments veins lines stripe stripes streaks dots spots speckles tips edge edges rim rims leaf "
    "leaves stem stems bud buds bells head beak bill leg legs feet cap crown mask eyebrow bib collar "
    "crest tail patch back belly breast chest wing wings face neck cheek cheeks bar bars ring line "
    "underparts underside nape flanks feathers"
)
_PARTS_OF_ROOMS = _words(
    "floor floors ceiling window windows door doors bed beds bedding bedspread pillow pillows cushions "
    "headboard table tables chair chairs armchair armchairs sofa sofas stools bench rug carpet lamp lamps "
    "chandelier fireplace curtain curtains blinds cabinet cabinets counter counters island stove oven "
    "refrigerator sink tile tiles desk dresser shelves wallpaper"
)
_MARKS = _words("bar bars ring line patch spot spots")
_STOPS = _words(
    "a an the of and or with in on at to from by above below under over around behind beside near into "
    "like has have is are its it this that these those one two three four five six each both while as "
    "against surround surrounds form forms circle ring rings open spread spreads stand stands sit sits"
)
_COMMANDS = ("show me {}", "draw {}", "i want {}", "i would like {} please", "{} please")
_HESITATIONS = ("uh {}", "um {}", "uh {} please", "er {}", "well {}", "i want um {}", "let me see {}")


@dataclass(frozen=True)
class Phrase:
    """What a caption says of one thing: "deep golden orange" of "petals"; words may come
    between, as "overlapping"."""

    colours: str
    between: str
    noun: str

    @property
    def words(self) -> str:
        """The phrase as it stands in the caption."""
        return " ".join(part for part in (self.colours, self.between, self.noun) if part)


def phrases_of(caption: str, domain: str) -> list[Phrase]:
    """The phrases with a colour, in order.

    >>> [phrase.words for phrase in phrases_of("pale pink petals ring a dark red centre", "flower")]
    ['pale pink petals', 'dark red centre']
    """
    words, found, start = words_of(caption), [], 0
    nouns = _PARTS | _wholes(domain) | (_PARTS_OF_ROOMS if domain == "room" else frozenset())
    while start < len(words):
        end = _colours_end(words, start)
        noun = end
        while noun < min(end + 2, len(words) - 1) and words[noun] not in nouns | _STOPS | _COLOURS:
            noun += 1
        if end > start and noun < len(words) and words[noun] in nouns:
            last = noun + 1
            if words[noun] in ("wing", "eye") and last < len(words) and words[last] in _MARKS:
                last += 1
            found.append(Phrase(*map(" ".join, (words[start:end], words[end:noun], words[noun:last]))))
            end = last
        start = max(end, start + 1)
    return found


def _wholes(domain: str) -> frozenset[str]:
    return _WHOLES.get(domain, frozenset({domain, domain + "s"}))


def _colours_end(words: Sequence[str], start: int) -> int:
    """Where the colours (shades before them, "and" between them) that begin at `start` end; `start`, if no
    colour is among them."""
    end, coloured = start, start
    while end < len(words):
        if words[end] in _COLOURS:
            coloured = end + 1
        elif words[end] not in _SHADES and not (words[end] == "and" and end == coloured > start):
            break
        end += 1
    return coloured


def short_forms(caption: str, domain: str) -> list[str]:
    """Every plain short form of a caption; none, if it says no colour of anything.

    >>> short_forms("pale pink petals ring a dark red centre", "flower")
    ['pale pink petals', 'pale pink flower', 'a pale pink flower', 'pale pink', 'dark red centre',
     'a pale pink flower with a dark red centre', 'a flower with a dark red centre']
    """
    phrases = phrases_of(caption, domain)
    main = next((phrase for phrase in phrases if _is_main(phrase, domain)), None)
    forms = []
    if main:
        forms += [main.words] if main.noun != domain else []
        plain = f"{main.colours} {domain}"
        forms += [plain, _with_article(plain), main.colours]
    for phrase in phrases:
        if phrase is not main and phrase.noun not in _wholes(domain):
            part = _with_article(phrase.words)
            forms.append(phrase.words)
            forms += [f"{_with_article(f'{main.colours} {domain}')} with {part}"] if main else []
            forms.append(f"a {domain} with {part}")
    return list(dict.fromkeys(forms))


def _is_main(phrase: Phrase, domain: str) -> bool:
    """Whether the phrase's colours are those of the whole; "a black headed bird" is not black."""
    return phrase.noun in _wholes(domain) and not re.search(r"ed\b", phrase.between)


def _with_article(phrase: str) -> str:
    if re.search(r"[^s]s$", phrase) or phrase.split()[-1] in ("feet", "plumage", "bedding"):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def short_caption(
    captions: Sequence[str], domain: str, rng: np.random.Generator, *, dressed: float = 0.35
) -> str | None:
    """One short form of one of the captions, drawn at random; None, if none has any.

    Args:
        captions: of one picture.
        domain: what the pictures show: "flower", "bird", "room", or another noun.
        rng: draws the caption, the form and what is put around it.
        dressed: share of forms that become commands or hesitate.
    """
    forms = [form for form in (short_forms(caption, domain) for caption in captions) if form]
    if not forms:
        return None
    chosen = forms[rng.integers(len(forms))]
    form = chosen[rng.integers(len(chosen))]
    if rng.random() >= dressed:
        return form
    around = (_COMMANDS, _HESITATIONS)[rng.integers(2)]
    return around[rng.integers(len(around))].format(form)


def short_entries(entries: Sequence[Entry], domain: str, seed: int, per_picture: int = 1) -> list[Entry]:
    """The entries with up to `per_picture` different short forms in place of their captions, without
    recordings; entries none of whose captions has a short form are left out."""
    shortened = []
    for entry in entries:
        digest = hashlib.blake2b(f"short {seed} {entry.id}".encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        drawn = [short_caption(entry.captions, domain, rng) for _ in range(per_picture)]
        if texts := tuple(dict.fromkeys(text for text in drawn if text)):
            shortened.append(replace(entry, captions=texts, recordings=()))
    return shortened
