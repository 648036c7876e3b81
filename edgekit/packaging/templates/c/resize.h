/* Resizing is that of Pillow up to 12: a separable filter that widens as it reduces, in fixed point, horizontally first. */

#define EK_BYTE_BITS 22 /* of a filter's weights */

static double ek_sinc(double x) { return x == 0.0 ? 1.0 : sin(x * EK_PI) / (x * EK_PI); }

static double ek_filter(int filter, double x) {
  x = fabs(x);
  switch (filter) {
    case EK_BILINEAR: return x < 1.0 ? 1.0 - x : 0.0;
    case EK_HAMMING: return x < 1.0 ? ek_sinc(x) * (0.54 + 0.46 * cos(x * EK_PI)) : 0.0;
    case EK_BICUBIC:
      if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
      return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
    case EK_LANCZOS: return x < 3.0 ? ek_sinc(x) * ek_sinc(x / 3.0) : 0.0;
    default: return 0.0;
  }
}

/* One axis: `lines` lines of `from` values become `to` values; the steps say how far apart values and lines lie. */
static int ek_resize_axis(const uint8_t *in, int from, uint8_t *out, int to, int lines, int channels, int in_step,
                          int in_line, int out_step, int out_line, int filter) {
  const double supports[] = {0.0, 0.5, 1.0, 1.0, 2.0, 3.0};
  const double scale = (double)from / to, widened = scale < 1.0 ? 1.0 : scale, narrowed = 1.0 / widened, support = supports[filter] * widened;
  const int taps = (int)ceil(support) * 2 + 1;
  double *exact = (double *)malloc(sizeof(double) * (size_t)taps);
  int32_t *weights = (int32_t *)malloc(sizeof(int32_t) * (size_t)taps);
  if (exact == NULL || weights == NULL) {
    free(exact);
    free(weights);
    return 0;
  }
  for (int x = 0; x < to; x++) {
    const double centre = (x + 0.5) * scale;
    int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > from ? from : last;
    double sum = 0.0;
    for (int k = first; k < last; k++) {
      const double at = (k - centre + 0.5) * narrowed;
      exact[k - first] = filter == EK_BOX ? (at > -0.5 && at <= 0.5) : ek_filter(filter, at);
      sum += exact[k - first];
    }
    for (int k = 0; k < last - first; k++) {
      const double share = sum != 0.0 ? exact[k] / sum : exact[k];
      weights[k] = (int32_t)(share * (1 << EK_BYTE_BITS) + (share < 0 ? -0.5 : 0.5));
    }
    for (int line = 0; line < lines; line++)
      for (int c = 0; c < channels; c++) {
        const uint8_t *source = in + (size_t)line * in_line + (size_t)first * in_step + c;
        int32_t value = 1 << (EK_BYTE_BITS - 1);
        for (int k = 0; k < last - first; k++) value += source[(size_t)k * in_step] * weights[k];
        value >>= EK_BYTE_BITS;
        out[(size_t)line * out_line + (size_t)x * out_step + c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
      }
  }
  free(exact);
  free(weights);
  return 1;
}

/* height x width bytes of `channels` each -> to_height x to_width. 0: no memory. */
static int ek_resize(const uint8_t *in, int height, int width, int channels, uint8_t *out, int to_height, int to_width,
                     int filter) {
  if (filter == EK_NEAREST) {
    for (int y = 0; y < to_height; y++)
      for (int x = 0; x < to_width; x++) {
        const int from_y = (int)((y + 0.5) * height / to_height), from_x = (int)((x + 0.5) * width / to_width);
        memcpy(out + ((size_t)y * to_width + x) * channels, in + ((size_t)from_y * width + from_x) * channels,
               (size_t)channels);
      }
    return 1;
  }
  uint8_t *wide = (uint8_t *)malloc((size_t)height * to_width * channels);
  int done = wide != NULL;
  if (done && width == to_width) memcpy(wide, in, (size_t)height * width * channels);
  else if (done)
    done = ek_resize_axis(in, width, wide, to_width, height, channels, channels, width * channels, channels,
                          to_width * channels, filter);
  if (done && height == to_height) memcpy(out, wide, (size_t)height * to_width * channels);
  else if (done)
    done = ek_resize_axis(wide, height, out, to_height, to_width, channels, to_width * channels, channels,
                          to_width * channels, channels, filter);
  free(wide);
  return done;
}

static void ek_image_values(const uint8_t *pixels, const ek_image_rule *rule, float *out) {
  const size_t count = (size_t)rule->height * rule->width * rule->channels;
  for (size_t k = 0; k < count; k++) out[k] = ek_image_value(pixels, rule, k);
}

/* A picture of any size, RGB (3) or grey (1), rows from the top without gaps -> real values. 0: no memory. */
static int ek_image(const uint8_t *pixels, int height, int width, int channels, const ek_image_rule *rule, float *out) {
  const int wanted = rule->channels;
  uint8_t *same = (uint8_t *)malloc((size_t)height * width * wanted);
  if (same == NULL) return 0;
  for (size_t k = 0; k < (size_t)height * width; k++) {
    const uint8_t *p = pixels + k * channels;
    if (channels == wanted) memcpy(same + k * wanted, p, (size_t)wanted);
    else if (wanted == 1) same[k] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    else memset(same + k * wanted, p[0], (size_t)wanted);
  }
  int done = 1;
  if (height == rule->height && width == rule->width) {
    ek_image_values(same, rule, out);
  } else {
    int to_height = rule->resize_height, to_width = rule->resize_width;
    if (rule->shorter) {
      const double factor = (double)rule->shorter / (height < width ? height : width);
      to_height = (int)(height * factor) > rule->height ? (int)(height * factor) : rule->height;
      to_width = (int)(width * factor) > rule->width ? (int)(width * factor) : rule->width;
    }
    int top = (int)rint((to_height - rule->height) / 2.0), left = (int)rint((to_width - rule->width) / 2.0);
    if (rule->bars >= 0) {
      const double down = (double)rule->height / height, across = (double)rule->width / width;
      const double factor = down < across ? down : across;
      to_height = rint(height * factor) < 1 ? 1 : (int)rint(height * factor);
      to_width = rint(width * factor) < 1 ? 1 : (int)rint(width * factor);
      top = -((rule->height - to_height) / 2);
      left = -((rule->width - to_width) / 2);
    }
    uint8_t *resized = (uint8_t *)malloc((size_t)to_height * to_width * wanted);
    uint8_t *cut = (uint8_t *)malloc((size_t)rule->height * rule->width * wanted);
    done = resized != NULL && cut != NULL;
    done = done && ek_resize(same, height, width, wanted, resized, to_height, to_width, rule->filter);
    if (done) {
      memset(cut, rule->bars > 0 ? rule->bars : 0, (size_t)rule->height * rule->width * wanted);
      for (int y = 0; y < rule->height; y++)
        for (int x = 0; x < rule->width; x++) {
          const int from_y = y + top, from_x = x + left;
          if (from_y >= 0 && from_y < to_height && from_x >= 0 && from_x < to_width)
            memcpy(cut + ((size_t)y * rule->width + x) * wanted,
                   resized + ((size_t)from_y * to_width + from_x) * wanted, (size_t)wanted);
        }
      ek_image_values(cut, rule, out);
    }
    free(resized);
    free(cut);
  }
  free(same);
  return done;
}
