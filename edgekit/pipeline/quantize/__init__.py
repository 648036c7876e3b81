"""``edgekit quantize``: a float model file becomes a smaller one with an account, published if it holds its gates.

Checks of the options (checks), the samples (samples), the ranges found on them (ranges), a file as it runs (measure),
what its operators take on the target (kernels), one compressed file (make), its proof (proof), what each operator
costs by itself (plan, mixed), what it has to be (gates, floor), the order of all that (run), what came of it
(result)."""

from edgekit.pipeline.quantize.plan import Plan as Plan
from edgekit.pipeline.quantize.result import QuantizePlan as QuantizePlan
from edgekit.pipeline.quantize.result import QuantizeResult as QuantizeResult
from edgekit.pipeline.quantize.run import plan_mixed as plan_mixed
from edgekit.pipeline.quantize.run import plan_quantize as plan_quantize
from edgekit.pipeline.quantize.run import quantize_one as quantize_one
from edgekit.pipeline.quantize.samples import SAMPLES as SAMPLES
