"""Main colours of a caption: those it gives its flower or bird, in the eleven basic colours of English.

The rule: a caption's first run of neighbouring colour words ("pale *yellow orange* petals ...") that is not
about a part gives the main colours. A run is about a part if a part's noun ("centre", "stamens", "leaves",
"beak" ...) comes within five words after it, before a noun for the whole ("petals", "bloom", "bird" ...) and
before a preposition. Two basic colours in one run are a shade between them: either is right.
"""

import re

_SHADES = {
    "white": "white whitish snowy cream creamy ivory pearl",
    "grey": "grey gray greyish grayish silver silvery slate ashy",
    "black": "black blackish",
    "brown": "brown brownish tan buff chestnut beige tawny sandy bronze chocolate copper rufous",
    "red": "red reddish scarlet crimson maroon ruby burgundy wine cherry",
    "orange": "orange apricot peach amber tangerine rusty",
    "yellow": "yellow yellowish golden gold lemon",
    "green": "green greenish olive lime",
    "blue": "blue bluish teal turquoise azure indigo aqua",
    "purple": "purple purplish violet lavender lilac mauve plum periwinkle",
    "pink": "pink pinkish magenta rose rosy salmon coral fuchsia blush raspberry",
}
COLOURS = tuple(_SHADES)
"""The basic colours (Berlin and Kay, "Basic Color Terms", 1969)."""
COLOUR_WORDS = {word: colour for colour, words in _SHADES.items() for word in words.split()}

# What a noun or preposition after a colour word tells of it: "part" passes the colour over.
_TELLING = {
    "part": "centre centres center centers middle middles heart hearts eye eyes throat throats disc disk "
    "cone dome hollow stamen stamens pistil pistils filament pollen anthers veins lines stripes "
    "streaks dots spots specks speckles freckles flecks tip tips edge edges rim rims border "
    "margins rings base bases column button stem stems stalk stalks leaf leaves foliage bud buds "
    "branch twig background ground grass sky water beak bill leg legs feet cap crown mask eyebrow "
    "bib collar crest tail patch patches bars",
    "whole": "flower flowers bloom blooms blossom blossoms petal petals petalled florets bracts rays bells "
    "bell trumpet trumpets cup cups star ball spike spikes cluster clusters head heads bird "
    "seabird body",
    "preposition": "with on in above around surround behind beside has have among",
}
_TELLS = {word: kind for kind, words in _TELLING.items() for word in words.split()}
_REACH = 5


def main_colours(caption: str) -> tuple[str, ...]:
    """Basic colours of a caption's main colour words, in order; () if it has none.

    >>> main_colours("a yellow centre amid pale yellow orange petals")
    ('yellow', 'orange')
    """
    words = re.findall(r"[a-z]+", caption.lower())
    start = 0
    while start < len(words):
        end = _run_end(words, start)
        if end > start and not _about_a_part(words[end : end + _REACH]):
            return tuple(dict.fromkeys(COLOUR_WORDS[word] for word in words[start:end]))
        start = max(end, start + 1)
    return ()


def _run_end(words: list[str], start: int) -> int:
    """Where the run of colour words that begins at `start` ends."""
    end = start
    while end < len(words) and words[end] in COLOUR_WORDS:
        end += 1
    return end


def _about_a_part(following: list[str]) -> bool:
    return next((_TELLS[word] for word in following if word in _TELLS), "") == "part"
