"""Random cases without Hypothesis, the same in every run: some hundred of them cost as much as a few
of its examples, and reach the combinations that 40 examples do not."""

from random import Random


def cases(count: int) -> list[Random]:
    """Generators of random numbers, one for each case."""
    return [Random(number) for number in range(count)]


def some(rng: Random, choices, most: int, least: int = 0) -> list:
    """A list of so many of these choices."""
    return [rng.choice(choices) for _ in range(rng.randint(least, most))]


def numbers(rng: Random, most: int, count: int = 2) -> tuple[int, ...]:
    """Numbers up to `most`; every fourth is 0."""
    return tuple(rng.choice([0, *[rng.randint(0, most) for _ in range(3)]]) for _ in range(count))
