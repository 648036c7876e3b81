"""``edgekit quantize --scheme auto``: candidates are made, judged and timed on the device; the fastest is kept.

The order of all that (run); what makes no sense (checks), the float files (parents), who is judged on what (samples),
the files that are tried (candidates), where they can run (ways), their quality and their time (measuring), which one it
is (trial), finished trials on disk (trial_store)."""

from edgekit.pipeline.auto.run import auto as auto
from edgekit.results.quantize import AutoResult as AutoResult
