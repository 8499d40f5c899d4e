"""`python -m experiments` lists the experiments; `python -m experiments NAME --help` explains one."""

from __future__ import annotations

import sys

from badrjax.sweeps import StoreError
from experiments.catalogue import EXPERIMENTS, load


def main() -> int:
    """Run one experiment, or list them; exit status 2 for a request that cannot be met."""
    import tyro

    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print("usage: python -m experiments NAME [OPTIONS]; NAME --help explains one\n")
        for name, experiment in EXPERIMENTS.items():
            print(f"  {name:16} {experiment.summary}")
        return 0
    try:
        module = load(arguments[0])
        _check_none_empty(arguments[1:])
        settings = tyro.cli(module.Settings, prog=f"python -m experiments {arguments[0]}", args=arguments[1:])
        module.main(settings)
    except (ValueError, OSError, StoreError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    return 0


def _check_none_empty(arguments: list[str]) -> None:
    """Refuse empty values, often of an unset variable: an empty path would be the directory that one is in."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            raise ValueError(
                f"{argument.rstrip('=') or before or 'an argument'} is given nothing; leave it out instead"
            )


if __name__ == "__main__":
    sys.exit(main())
