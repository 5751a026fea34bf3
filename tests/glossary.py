"""Words that texts for users do not use, each with the term to use instead."""

import re

INSTEAD = {
    # Idioms that hide who does what.
    r"by heart": "memorise, overfit",
    r"'s face\b|\bface of (?:a|the) (?:family|detector|classifier)": "interface",
    r"\bwhoever\b|\bsomebody\b|\bnobody\b": "the user, the caller, another process",
    r"\blet in\b": "lock, allow",
    r"\b(?:go|goes|gone|going|went) on with\b": "resume, continue",
    r"\b(?:trains?|trained|fits?|made?|makes|begins?) (?:(?:it|them|the \w+) )?anew\b": "again, retrain, restart",
    r"\bmend(?:s|ed|ing)?\b": "correct, repair",
    r"\btells? nothing\b": "carries no information",
    r"\bcannot be told from\b|\bto be told from\b|\btell (?:\w+ )?from chance\b": "distinguish from",
    r"\bflatters\b|\bflattering\b": "is optimistic",
    r"\btoo dear\b": "costs too much",
    r"\bone's own\b": "your own",
    r"\b(?:which|what) is said\b|\bwithout a word\b": "a note says so, without a warning",
    r"\bas (?:it|they) comes?\b": "unchanged",
    r"\bthe house\b": "the library",
    r"\bfor instance\b": "for example",
    r"\bputs? out\b": "returns",
    r"\bhangs? on\b(?! to)": "depends on",
    r"\blook closer\b": "what to change",
    r"(?<!there )\b(?:is|are) no (?:texts?|images?|tables?|numbers?|features?|files?|folders?|dates?)\b": "is not a",
    # One name for each thing.
    r"\b(few|medium|many) shot\b": "few-shot, medium-shot, many-shot",
    r"\blong tailed\b": "long-tailed",
    r"\bminority class(?:es)?\b": "rare classes, tail classes",
    r"\bmajority class(?:es)?\b": "frequent classes, head classes",
    r"\bclass-priors\b|\blabel priors?\b": "class priors",
    r"\bperturbation radius\b": "neighbourhood size, rho",
}

OPENINGS = re.compile(
    r"(?:Of|What|As|That|Those|Whether|How|Which|Whose|Where|Why|Who|From|In|To|On|At|By|With|Without|For|When|While"
    r"|Until|After|Before|Under|Over|Beside|Among|Some|Something|Such|Stands|Never|Away|Nothing|Its|It|There|Here)\b"
)
"""First words of a docstring that hide what the thing does."""

ARGUMENT_OPENINGS = re.compile(r"(?:Of|What|As|That|Those|How|Which|Whose|Where|Why|Who|From|In|To|On|At|By)\b")
"""The same of an argument, which may say whether something holds, or for what."""


def idioms(text: str) -> list[str]:
    """The words of a text that have a plainer term, with their surroundings and that term."""
    plain = " ".join(text.split())
    return [
        f"...{plain[max(0, hit.start() - 30) : hit.end() + 30]}...: {hit[0]!r} -> {term}"
        for idiom, term in INSTEAD.items()
        for hit in re.finditer(idiom, plain, flags=re.IGNORECASE)
    ]


def opens_badly(text: str, openings: re.Pattern[str] = OPENINGS) -> bool:
    """Whether a docstring starts with a word that hides what the thing does, or says nothing."""
    return not text.strip() or openings.match(text) is not None


def prose(markdown: str) -> str:
    """A page without its code: blocks, words between back quotes, and addresses."""
    without_blocks = re.sub(r"^( *)(```|~~~).*?^\1\2", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+", " ", without_blocks)


def visible(html: str) -> str:
    """The texts of an HTML page, without scripts and styles."""
    return re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL))
