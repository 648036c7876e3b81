/* ---------------------------------------------------------------- integers of quantized tensors */

static int32_t ek_quantized(float value, float scale, int zero_point, int32_t least, int32_t most) {
  const float steps = rintf(value / scale) + (float)zero_point;
  return steps < (float)least ? least : steps > (float)most ? most : (int32_t)steps;
}

static float ek_real(int32_t value, float scale, int zero_point) { return ((float)value - (float)zero_point) * scale; }
