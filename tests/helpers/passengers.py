"""A table like that of the Titanic's passengers, as a CSV file for the commands."""

import csv

import numpy as np


def write(path, rows=150, seed=0):
    """Write the table; returns its rows as dicts of text."""
    rng = np.random.default_rng(seed)
    table = []
    for number in range(1, rows + 1):
        sex = str(rng.choice(["female", "male"], p=[0.3, 0.7]))
        pclass, age = int(rng.integers(1, 4)), round(float(rng.uniform(1, 70)), 1)
        lives = rng.random() < (0.9 if sex == "female" else 0.15)
        table.append(
            {
                "id": str(number),
                "survived": "yes" if lives else "no",
                "class": str(pclass),
                "name": f'Doe, "Jo" {number}',
                "sex": sex,
                "age": "" if rng.random() < 0.2 else str(age),
                "fare": f"{90 / pclass + age / 10 + rng.random():.2f}",
                "port": str(rng.choice(["S", "C", "Q"])),
            }
        )
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return table
