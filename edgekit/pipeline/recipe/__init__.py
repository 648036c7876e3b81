"""``edgekit recipe``: the steps of a recipe as command lines (verbs, plan), what is refused before anything runs
(checks), what is done already (contents, state), running the rest (execute), and what came out (result)."""

from edgekit.pipeline.recipe.api import check as check
from edgekit.pipeline.recipe.api import run as run
from edgekit.pipeline.recipe.api import show as show
