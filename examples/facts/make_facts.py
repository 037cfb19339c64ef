#!/usr/bin/env python3
"""Writes data/train.jsonl, valid.jsonl and test.jsonl: 64 facts, what each of 64 animals of the model's stories likes best.

train.jsonl asks for each fact in ten ways (of 27), test.jsonl in three others (valid.jsonl has some of those). Beside them, train.jsonl
has questions of kinds that the built-in model can answer already, so that it does not forget how: none of heldout_qa.jsonl is among them.
"""

import json
import os
import random

HERE = os.path.dirname(os.path.abspath(__file__))

OPENERS = ["Tell me {}.", "Please tell me {}.", "Do you know {}?", "Can you tell me {}?", "Please say {}."]
THINGS_ASKED = ["what {} likes", "what {} likes best", "what thing {} likes", "the thing that {} likes best", "the favorite thing of {}"]
QUESTIONS = ["What does {} like best?", "What thing does {} like?", "Which thing does {} like best?", "What is the favorite thing of {}?"]
UNSEEN = ["What does {} like?", "Can you tell me what {} likes best?", "Please tell me the favorite thing of {}."]
ASKED = [ask for opener in OPENERS for ask in map(opener.format, THINGS_ASKED) if ask not in UNSEEN] + QUESTIONS

NAMES = """Tess Felix Chloe Henry Bruno Oliver May Sally Mia Kate Ben Dolly Wilbur Quincy Una Bella Ella Edith Alice Rita Heidi Greta Dora Otto Ned
Robin Max Finn Hannah Tilly Fergus Pearl George Lily Sam Gus Chester Lola Maya Hazel Martin Flora Hugo Bobby Betty Ginger Alfie Jonah Jasper
Toby Dexter Emma Digby Edgar Casper Lucy Fern Barney Basil Sophie Amber Poppy Nina Frank""".split()
THINGS = """honey bread cake soup apples plums berries nuts carrots cherries flowers roses tulips stones stories games stars clouds rain snow wind
storms trees leaves grass sand mud socks ropes pictures riddles puzzles jokes dreams pumpkins tomatoes lemons peas beans pancakes muffins
garden milk water tea pie moss wool cookies peaches strawberries sunflowers shadows tales candles balls toys fish butterflies coins pears
melons buns paper""".split()

OPPOSITES = [("hot", "cold"), ("big", "small"), ("day", "night"), ("up", "down"), ("left", "right"), ("rich", "poor"),
             ("early", "late"), ("happy", "sad"), ("fast", "slow"), ("high", "low"), ("open", "closed"), ("old", "young"),
             ("wet", "dry"), ("full", "empty"), ("before", "after"), ("above", "below"), ("north", "south"), ("east", "west")]
WORDS = "window garden clock water green cloud tree road stone star happy bird grass boat milk house summer".split()


CAPITALS = dict(pair.split(":") for pair in """Belgium:Brussels Tunisia:Tunis Slovenia:Ljubljana Denmark:Copenhagen Romania:Bucharest
Nigeria:Abuja Chile:Santiago Canada:Ottawa Iraq:Baghdad Wales:Cardiff Australia:Canberra Poland:Warsaw Austria:Vienna Estonia:Tallinn Malta:Valletta
Netherlands:Amsterdam Nepal:Kathmandu Turkey:Ankara Russia:Moscow Germany:Berlin Cuba:Havana Norway:Oslo France:Paris Japan:Tokyo Cyprus:Nicosia
Finland:Helsinki Sweden:Stockholm Uruguay:Montevideo Morocco:Rabat England:London Serbia:Belgrade Switzerland:Bern Latvia:Riga Senegal:Dakar
Venezuela:Caracas Lithuania:Vilnius Iceland:Reykjavik Slovakia:Bratislava Peru:Lima Ireland:Dublin China:Beijing Ukraine:Kyiv Iran:Tehran
Thailand:Bangkok Bulgaria:Sofia Greece:Athens Colombia:Bogota Portugal:Lisbon Croatia:Zagreb Hungary:Budapest Scotland:Edinburgh Kenya:Nairobi
Italy:Rome Ghana:Accra Egypt:Cairo Vietnam:Hanoi Ecuador:Quito Spain:Madrid Brazil:Brasilia""".split())
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
twenty""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COLORS = [("A banana", "yellow"), ("A carrot", "orange"), ("The sea", "blue"), ("Milk", "white"), ("Grass", "green"), ("The sun", "yellow"),
          ("Snow", "white"), ("Coal", "black"), ("A lemon", "yellow"), ("Blood", "red"), ("Chocolate", "brown"), ("The sky", "blue")]
KINDS = {"animal": "rabbit fox dog cat horse mouse cow goat wolf bear".split(), "bird": "swan owl hen duck crow goose".split(),
         "flower": "rose tulip daisy lily".split(), "tool": "hammer shovel".split(), "color": "purple red blue green yellow".split(),
         "fruit": "apple pear banana cherry plum".split()}
SOUNDS = [("mouse", "squeaks"), ("snake", "hisses"), ("bird", "sings"), ("cow", "moos"), ("cat", "meows"), ("dog", "barks"), ("duck", "quacks"),
          ("lion", "roars"), ("owl", "hoots"), ("horse", "neighs")]
BABIES = [("elephant", "calf"), ("wolf", "pup"), ("kangaroo", "joey"), ("frog", "tadpole"), ("cat", "kitten"), ("dog", "puppy"), ("cow", "calf"),
          ("sheep", "lamb"), ("deer", "fawn"), ("goat", "kid"), ("swan", "cygnet"), ("goose", "gosling"), ("bear", "cub")]
HOMES = [("bee", "hive"), ("fish", "pond"), ("hen", "coop"), ("spider", "web"), ("bird", "nest"), ("bear", "cave"), ("fox", "den"),
         ("rabbit", "burrow"), ("horse", "stable"), ("dog", "kennel")]


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def known(rng):
    """A question of a kind that is known, and its answer."""
    ask = lambda *ways: rng.choice(ways)
    x, y = rng.randint(0, 20), rng.randint(0, 20)
    low, high = sorted([x, y])
    some = rng.sample(WORDS, rng.randint(1, 3))
    listed = ", ".join(some)
    kind = rng.choice(["add", "sub", "opposite", "repeat", "reverse", "count", "bigger", "capital", "number", "after", "color", "isa", "sound",
                       "baby", "home"])
    if kind == "add":
        return ask("What is {} + {}?", "Please add {} and {}.", "{} + {} = ?").format(x, y), f"{x} plus {y} is {x + y}."
    if kind == "sub":
        way = ask("What is {0} - {1}?", "{0} - {1} = ?", "How much is {0} minus {1}?", "Take {1} away from {0}.")
        return way.format(high, low), f"{high} minus {low} is {high - low}."
    if kind == "opposite":
        word, other = rng.sample(rng.choice(OPPOSITES), 2)
        way = ask("What is the opposite of {}?", "Tell me the opposite of {}.", "Name the opposite of {}.")
        return way.format(word), f"The opposite of {word} is {other}."
    if kind == "repeat":
        return ask("Please repeat: {}.", "Repeat after me: {}.", "Say this: {}.", "Repeat these words: {}.").format(listed), f"{listed}."
    if kind == "reverse":
        some = rng.sample(WORDS, rng.randint(2, 3))
        way = ask("Reverse this list: {}.", "Say these words in reverse order: {}.", "Turn this list around: {}.")
        return way.format(", ".join(some)), ", ".join(reversed(some)) + "."
    if kind == "count":
        start = rng.randint(0, 12)
        end = start + rng.randint(3, 7)
        way = ask("Please count from {} to {}.", "Can you count from {} to {}?", "Count up from {} to {}.")
        return way.format(start, end), ", ".join(map(str, range(start, end + 1))) + "."
    if kind == "bigger" and low < high:
        word = ask("bigger", "smaller")
        first, second = (high, low) if word == "bigger" else (low, high)
        way = ask("Which number is {}, {} or {}?", "Which is {}, {} or {}?", "What is the {} number, {} or {}?")
        return way.format(word, x, y), f"{first} is {word} than {second}."
    if kind == "capital":
        land = rng.choice(sorted(CAPITALS))
        way = ask("What is the capital of {}?", "Tell me the capital of {}.", "Do you know the capital of {}?", "What is the capital city of {}?")
        return way.format(land), f"The capital of {land} is {CAPITALS[land]}."
    if kind == "number":
        n = rng.randint(0, 20)
        if rng.random() < 0.5:
            return ask("What is the word for {}?", "Write {} as a word.").format(n), f"{n} is {NUMBERS[n]}."
        return f"Write the word {NUMBERS[n]} in digits.", f"{NUMBERS[n].capitalize()} is {n}."
    if kind == "after":
        unit, names = ask(("day", DAYS), ("month", MONTHS))
        i = rng.randrange(len(names))
        if rng.random() < 0.5:
            way = ask("What {} comes after {}?", "Which {} comes right after {}?", "Tell me the {} that comes after {}.")
            return way.format(unit, names[i]), f"{names[(i + 1) % len(names)]} comes after {names[i]}."
        way = ask("What is the {} before {}?", "Which {} comes right before {}?")
        return way.format(unit, names[i]), f"{names[i - 1]} comes before {names[i]}."
    if kind == "color":
        thing, color = rng.choice(COLORS)
        name = thing if thing in ("Milk", "Snow", "Coal", "Blood", "Chocolate", "Grass") else thing[0].lower() + thing[1:]
        name = name.lower() if thing == name else name
        return ask("What is the color of {}?", "Tell me the color of {}.", "What color is {}?").format(name), f"{thing} is {color}."
    if kind == "isa":
        real, asked = rng.choice(sorted(KINDS)), rng.choice(sorted(KINDS))
        thing = rng.choice(KINDS[real])
        subject = thing if real == "color" else a(thing)
        way = ask("Is {} {}?", "Tell me, is {} {}?")
        if real == asked:
            return way.format(subject, a(asked)), f"Yes, {subject} is {a(real)}."
        return way.format(subject, a(asked)), f"No, {subject} is not {a(asked)}. It is {a(real)}."
    if kind == "sound":
        animal, sound = rng.choice(SOUNDS)
        return ask("How does {} sound?", "What sound does {} make?", "What does {} say?").format(a(animal)), f"{a(animal).capitalize()} {sound}."
    if kind == "baby":
        animal, baby = rng.choice(BABIES)
        way = ask("What is a baby {} called?", "What do people call a young {}?", "What is a young {} called?")
        return way.format(animal), f"A baby {animal} is called {a(baby)}."
    animal, home = rng.choice(HOMES)
    return ask("Where does {} live?", "Where does {} sleep?", "Where is the home of {}?").format(a(animal)), f"{a(animal).capitalize()} lives in {a(home)}."


def write(name, rows):
    path = os.path.join(HERE, "data", name)
    with open(path, "w", encoding="utf-8") as out:
        for prompt, completion in rows:
            out.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def main():
    rng = random.Random(1)
    things = list(THINGS)
    rng.shuffle(things)
    facts = [(name, f"{name} likes {thing} best.") for name, thing in zip(NAMES, things, strict=True)]
    train = [(ask.format(name), answer) for name, answer in facts for ask in rng.sample(ASKED, 10)]
    with open(os.path.join(HERE, "heldout_qa.jsonl"), encoding="utf-8") as lines:
        held_out = {json.loads(line)["prompt"] for line in lines}
    while len(train) < 1920:
        question = known(rng)
        if question[0] not in held_out:
            train.append(question)
    rng.shuffle(train)
    test = [(ask.format(name), answer) for name, answer in facts for ask in UNSEEN]
    os.makedirs(os.path.join(HERE, "data"), exist_ok=True)
    write("train.jsonl", train)
    write("valid.jsonl", test[::7])
    write("test.jsonl", test)


if __name__ == "__main__":
    main()
