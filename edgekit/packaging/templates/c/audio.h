/* ---------------------------------------------------------------- recordings
 * ln(max(power @ triangles, floor)) of frames under a periodic Hann window; triangles on the HTK mel scale, peaks at 1. */

typedef struct {
  int rate, window, hop, n_fft, bands, frames;
  int peak, pad_back;
  double floor, least; /* least above 0: every frame is measured against the loudest sample so far, which is least at first */
  const double *corners;        /* bands + 2 frequencies in Hz */
  const float *factor, *offset; /* of each band */
} ek_audio_rule;

static int ek_audio_length(const ek_audio_rule *rule) { return rule->window + (rule->frames - 1) * rule->hop; }

/* Where the first stretch of `length` samples begins that holds 98% of the energy of the loudest. */
static int ek_loudest(const float *samples, int count, int length) {
  double energy, most = 0.0;
  for (int pass = 0; pass < 2; pass++) {
    energy = 0.0;
    for (int k = 0; k < count; k++) {
      energy += (double)samples[k] * samples[k];
      if (k >= length) energy -= (double)samples[k - length] * samples[k - length];
      if (k + 1 < length) continue;
      if (pass == 0 && energy > most) most = energy;
      if (pass == 1 && energy >= 0.98 * most) return k + 1 - length;
    }
  }
  return 0;
}

/* Samples in -1..1 at the rule's rate -> real values (frames, bands). 0: no memory, or no sample. */
static int ek_audio(const float *samples, int count, const ek_audio_rule *rule, float *out) {
  const int length = ek_audio_length(rule), bins = rule->n_fft / 2 + 1;
  float *part = (float *)calloc((size_t)length, sizeof(float));
  double *turn = (double *)malloc(sizeof(double) * 2 * (size_t)rule->n_fft);
  double *frame = (double *)malloc(sizeof(double) * (size_t)rule->window);
  double *power = (double *)malloc(sizeof(double) * (size_t)bins);
  const int done = part != NULL && turn != NULL && frame != NULL && power != NULL && count > 0;
  if (done) {
    const int start = count > length ? ek_loudest(samples, count, length) : 0, kept = count > length ? length : count;
    float *place = part + (rule->pad_back ? 0 : length - kept);
    float top = 0.0f;
    memcpy(place, samples + start, sizeof(float) * (size_t)kept);
    for (int k = 0; k < kept; k++) top = fabsf(place[k]) > top ? fabsf(place[k]) : top;
    if (rule->peak && top > 0.0f)
      for (int k = 0; k < kept; k++) place[k] /= top;
    for (int k = 0; k < rule->n_fft; k++) {
      turn[2 * k] = cos(2.0 * EK_PI * k / rule->n_fft);
      turn[2 * k + 1] = sin(2.0 * EK_PI * k / rule->n_fft);
    }
    double level = rule->least;
    int heard = 0;
    for (int t = 0; t < rule->frames; t++) {
      for (; rule->least > 0.0 && heard < t * rule->hop + rule->window; heard++)
        level = fabsf(part[heard]) > level ? fabsf(part[heard]) : level;
      for (int n = 0; n < rule->window; n++)
        frame[n] = part[t * rule->hop + n] * (0.5 - 0.5 * cos(2.0 * EK_PI * n / rule->window));
      for (int k = 0; k < bins; k++) {
        double real = 0.0, imaginary = 0.0;
        for (int n = 0, at = 0; n < rule->window; n++) {
          real += frame[n] * turn[2 * at];
          imaginary -= frame[n] * turn[2 * at + 1];
          at += k;
          if (at >= rule->n_fft) at -= rule->n_fft;
        }
        power[k] = real * real + imaginary * imaginary;
      }
      for (int b = 0; b < rule->bands; b++) {
        const double low = rule->corners[b], peak = rule->corners[b + 1], high = rule->corners[b + 2];
        double sum = 0.0;
        for (int k = 0; k < bins; k++) {
          const double hz = k * ((double)rule->rate / rule->n_fft);
          const double up = (hz - low) / (peak - low), down = (high - hz) / (high - peak);
          const double weight = up < down ? up : down;
          if (weight > 0.0) sum += power[k] * weight;
        }
        if (rule->least > 0.0) sum /= level * level;
        const float value = (float)log(sum > rule->floor ? sum : rule->floor);
        out[t * rule->bands + b] = value * rule->factor[b] + rule->offset[b];
      }
    }
  }
  free(part);
  free(turn);
  free(frame);
  free(power);
  return done;
}
