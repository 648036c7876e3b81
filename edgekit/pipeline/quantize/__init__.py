"""``edgekit quantize``: a float model file becomes a smaller one with an account, published if it holds its gates.

Checks of the options (checks), the samples (samples), the ranges found on them (ranges), a file as it runs (measure),
what its operators take on the target (kernels), one compressed file (make), its proof (proof), what each operator
costs by itself (plan, mixed), what it has to be (gates, floor), the order of all that (run)."""

from edgekit.pipeline.quantize.run import plan_mixed as plan_mixed
from edgekit.pipeline.quantize.run import plan_quantize as plan_quantize
from edgekit.pipeline.quantize.run import quantize_one as quantize_one
from edgekit.pipeline.quantize.samples import CALIBRATION_SAMPLES as CALIBRATION_SAMPLES
from edgekit.results.quantize import QuantizePlan as QuantizePlan
from edgekit.results.quantize import QuantizeResult as QuantizeResult
