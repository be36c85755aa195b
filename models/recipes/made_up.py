"""Made-up sentences from which a token table learns how an encoder weighs words. They need no meaning, only grammar.

Half are frames of everyday questions, requests and remarks with random words in their gaps, which show what words like
“how” and “not” are worth beside others; half are random words in a row, which reach deep into the vocabulary.
"""

from __future__ import annotations

import re

import numpy as np
from tokenizers import Tokenizer

GAP = "_"
WORD = re.compile(r"[a-z]+")
PIECE = re.compile(r"##[a-z]+")
# Tokens stand in the vocabulary about in the order of how often they are used. A word at place r is drawn with a
# weight of 1 / (r + 200): as in running text further down, and flatter at the top, where few words are many sentences.
FLATTEN = 200
LONGEST_ROW = 9
# One gap in four is a word of several pieces, as rare words, names and typing errors are.
SHARE_OF_LONG_WORDS = 0.25

FRAMES = """\
how do i _ my _
how do i get rid of a _ in the _
how long does it take to _ a _
how long can i keep _ in the _ before it is _
how much does a _ cost in _
how much _ do i have left on my _
how many _ are there in a _
how far is it from _ to the _
how often should i _ the _
how can i tell whether my _ is _ or not
how would you _ a _ without a _
how come my _ keeps _
how does _ work
how bad is it to _ every day
what is _
what is a _ and why does it matter
what is the _ of the _
what is the best _ for a _
what is the difference between a _ and a _
what are the rules for _ in _
what are the signs of _ in a _
what does it mean when my _ is _
what does the word _ mean
what do you call a _ that is _
what time does the _ open
what happens if i _ too much _
what happened to the _ i sent on _
what should i do about the _ in my _
what kind of _ do i need to _
what was the name of the _ from _
what would happen to a _ under _
what's on my _ for tomorrow
what's the fastest way to _
when is the _ due
when did _ become _
when should i see someone about a _
when was the last time i _ the _
when will my _ be _
where can i find a _ near me
where is the nearest _
where did i put my _
where do i _ if i lost my _
which _ is better for _
which of my _ are still _
which _ should be used to treat _
who wrote the _ about _
who is responsible for the _
who do i call when the _ is _
whose _ is it if we _ together
why is my _ so _
why was my _ declined
why does the _ keep _
why did you _ my _ twice
why can't i _ with my _
can you _ the _ for me
can you tell me about the _ in _
can you please _ my _ to _
can i _ if i have a _
can i take _ together with _
can i still _ after _
can a _ be _ by a _
could you explain the _ to me
could you _ that again
could a _ cause _
do i need a _ to _
do i have to _ before _
do you know any good _ in _
do you have a _
does the _ support _
does _ increase the risk of _
does my _ cover _
did my _ go through
did you _ the _ i asked for
is it safe to _ with _
is it okay if i _ the _
is there a _ for _
is there any way to _ my _
is a _ the same as a _
is the _ still _
is _ contagious
are there any _ on the way to _
are you able to _
are _ allowed in _
will my _ be affected by the _
will it _ tomorrow in _
would it be possible to _ the _
would you rather _ or _
should i _ or _ it first
should a _ be kept _
has the _ been _ yet
have you ever _ a _
i want to _ a _
i want my _ back
i need a new _
i need help with my _ please
i need to _ by the end of the month
i would like to _ my _
i'd like to know how to _
i have a question about my _
i have had a _ for three days
i can't find my _ anywhere
i can't _ because the _ is _
i don't understand why the _ is _
i don't think the _ was right about _
i do not want the _ any more
i lost my _ somewhere in the _
i think someone has _ my _
i think i was charged twice for the _
i just moved to _
i just got a _ and it does not _
i forgot the _ of my _
i am looking for a _ under fifty dollars
i am going to _ next week
i am tired of _
i was told to _ but nothing happened
i paid for a _ and never got it
i tried to _ the _ and now it is _
i'm in _ and i need a _
i've been _ since yesterday
my _ is _
my _ is not _
my _ hurts when i _
my _ stopped working after the _
my _ has not arrived
my _ says that _ is _
my _ and i want to _ together
there is a _ on my _ that i did not make
there is something wrong with the _
the _ is _ and the _ is not
the _ was _ by the _ in _
the _ of a _ is usually _
the patient has _ and a history of _
the court held that the _ was not _
the company reported a _ of _
the function returns _ instead of _
please _ my _
please tell me the _ of _
please stop the _
please write a short _ about _
tell me a _ about _
tell me what the _ is
show me all _ from last week
show me how to _
give me the _ for _
give me some ideas for a _
set a _ for seven in the morning
set the _ to _
put _ on my _ list
add a _ to the _
remove the _ from my _
turn off the _ in the _
turn the _ up a little
play some _
play the song _ by _
find a _ for two people
book me a _ to _ on friday
send a message to _ saying that i am _
remind me to _ at noon
remind me where i left the _
call _ and ask about the _
change my _ to _
make the _ less _
read me the _
order more _
open the _
cancel my _
cancel the _ and _ it again
compare _ and _ for a _
translate _ into _
explain _ to a child
explain the _ of _ in simple words
describe the _ of a _ with _
list the _ of _
calculate the _ of a _
write an email to my _ about the _
if i _ now will the _ be _
if the _ is _ what do i do
a _ with _ and _
a recipe for _ without _
two _ and a _ please
any _ for _
_ or _
_ near _
_ for beginners
_ not working
_ vs _
_ is not _ any more
_ symptoms and treatment
_ price today
_ of _ in _
_ and _ for dinner
no i said _
no that is not what i _
yes please _ it
thanks for the _
thank you that was _
hello i have a problem with my _
hi can someone _ me
hey what about the _
sorry i meant the _
not now maybe _
never mind the _
that is not a _
that was _
this _ does not _
this is the _ i told you about
it is too _ in here
it was _ when i _ it
we need _ for the _
we are out of _
we have to _ our _ before _
you are _
you said the _ would be _
they told me that my _ was _
he was _ after the _
she has a _ and cannot _
her _ is _ than his _
our _ wants to know the _
""".splitlines()


class _Drawer:
    """Draws tokens of one kind, the frequent ones more often."""

    def __init__(self, tokenizer: Tokenizer, kind: re.Pattern[str], random: np.random.Generator) -> None:
        vocabulary = tokenizer.get_vocab()
        self._ids = sorted(token for text, token in vocabulary.items() if kind.fullmatch(text))
        weights = 1 / (np.arange(len(self._ids)) + FLATTEN)
        self._shares = weights / weights.sum()
        self._random = random

    def __call__(self, count: int) -> list[int]:
        return self._random.choice(self._ids, count, p=self._shares).tolist()


def sentences(tokenizer: Tokenizer, count: int, seed: int) -> list[list[int]]:
    """`count` made-up sentences as token ids without special tokens: one from a frame, one in a row, and so on."""
    random = np.random.default_rng(seed)
    words, pieces = _Drawer(tokenizer, WORD, random), _Drawer(tokenizer, PIECE, random)
    parts = [[tokenizer.encode(part, add_special_tokens=False).ids for part in frame.split(GAP)] for frame in FRAMES]

    def word() -> list[int]:
        return words(1) + pieces(int(random.random() < SHARE_OF_LONG_WORDS))

    def framed() -> list[int]:
        first, *rest = parts[random.integers(len(parts))]
        return [*first, *(token for part in rest for token in (*word(), *part))]

    def row() -> list[int]:
        length = int(random.integers(3, LONGEST_ROW + 1))
        return words(length - length // 4) + pieces(length // 4)

    return [row() if number % 2 else framed() for number in range(count)]
