"""Kills processes right after their last call, again and again, with the server up and down, and counts what is lost.

python tests/python/kill_matrix.py 100
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import mlplat
from worlds import World


def main(repetitions: int) -> int:
    """Runs both rows of the matrix and prints them."""
    failed = 0
    for up in (True, False):
        lost = doubled = points = 0
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder))
            runs = []
            if up:
                world.start()
            for _ in range(repetitions):
                count = random.randint(1, 400)
                runs.append((world.die_after(count), count))
            if not up:
                world.start()
            world.sync()
            mlplat.connect(world.url)
            for run_id, count in runs:
                for key in ("a", "b", "c"):
                    steps = mlplat.get_run(run_id).metric_history(key).to_arrow()["step"].to_pylist()
                    lost += count - len(set(steps))
                    doubled += len(steps) - len(set(steps))
                    points += count
            world.kill()
        state = "up" if up else "down"
        print(f"{repetitions} kills, server {state}: {points} points, {lost} lost, {doubled} doubled")
        failed += lost + doubled
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
