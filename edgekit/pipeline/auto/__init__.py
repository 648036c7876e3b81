"""``edgekit quantize --scheme auto``: candidates are made, judged and timed on the device; the fastest is kept.

What makes no sense (checks), the float files (parents), who is judged on what (samples), the files that are tried
(candidates), where they can run (ways), quality (judge), time (timing), which one it is (choice), the order of all that
(run), finished trials on disk (trial_store), what came of it (result)."""

from edgekit.pipeline.auto.result import AutoResult as AutoResult
from edgekit.pipeline.auto.run import auto as auto
