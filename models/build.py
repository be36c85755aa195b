#!/usr/bin/env python3
"""Builds the models of this project, and describes models of your own.

python models/build.py                     build what is missing or out of date
python models/build.py minilm-l6 --force   build one recipe again
python models/build.py --list              what can be built
python models/build.py manifest DIR …      write DIR/manifest.json for your own model.onnx
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from recipes import clinic, fixtures, manifest, minilm
from recipes.proofs import ProofError
from recipes.recipe import BuildError, Recipe, build

OUT = Path(__file__).resolve().parent / "build"
# In the order in which they are built: a recipe comes after those it needs.
RECIPES: tuple[Recipe, ...] = (fixtures.RECIPE, minilm.FULL, minilm.INT8, clinic.RECIPE)


def main(arguments: list[str]) -> int:
    """Gives the exit code: 0 done, 1 a build or a description failed, 2 wrong arguments."""
    if arguments[:1] == ["manifest"]:
        return _describe(arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes to build; none means all")
    parser.add_argument("--force", action="store_true", help="build even what is up to date")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("--verbose", action="store_true", help="also say what is up to date")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(recipe.name for recipe in RECIPES))
        return 0
    unknown = sorted(set(options.names) - {recipe.name for recipe in RECIPES})
    if unknown:
        parser.error(f"no recipe is called {', '.join(unknown)}; see --list")
    try:
        build(RECIPES, OUT, names=options.names, force=options.force, verbose=options.verbose)
    except (BuildError, ProofError, manifest.ManifestError) as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    return 0


def _describe(arguments: list[str]) -> int:
    """Writes the manifest of somebody's own model; what an existing manifest says is kept where no flag says else."""
    parser = argparse.ArgumentParser(prog="build.py manifest", description=_describe.__doc__)
    parser.add_argument("directory", type=Path, help="holds model.onnx and, for a text model, tokenizer.json")
    parser.add_argument("--name", help="default: the name of the directory")
    parser.add_argument("--version", help='default: "1"')
    parser.add_argument("--licence", help="of the weights, as an SPDX identifier")
    parser.add_argument("--source", help="where the weights come from")
    parser.add_argument("--max-tokens", type=int, help="longest text; default: what tokenizer.json truncates to")
    parser.add_argument(
        "--labels", action="append", metavar="OUTPUT=A,B,…", help="labels of an output, in order; may be repeated"
    )
    options = parser.parse_args(arguments)
    try:
        about = manifest.about(options.directory, {key: value for key, value in vars(options).items() if value})
        described = manifest.write(options.directory, about)
    except manifest.ManifestError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(described, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
