"""``edgekit quantize``: a float model file becomes a smaller one with an account, published if it holds its gates.

The order of all that (run); checks of the options (checks), the samples (samples), a file as it runs (measure), the
ranges and what is quantized by them (calibrate), what its operators take on the target (kernels), one compressed file
(make), its proof (proof), what each operator costs by itself (mixed), its time (timing), what it has to be (gates)."""

from edgekit.pipeline.quantize.run import plan_mixed as plan_mixed
from edgekit.pipeline.quantize.run import plan_quantize as plan_quantize
from edgekit.pipeline.quantize.run import quantize_one as quantize_one
from edgekit.pipeline.quantize.samples import CALIBRATION_SAMPLES as CALIBRATION_SAMPLES
from edgekit.results.quantize import QuantizePlan as QuantizePlan
from edgekit.results.quantize import QuantizeResult as QuantizeResult
