/* ---------------------------------------------------------------- images
 * Element k of the tensor is byte * factor + offset of its channel. */

enum { EK_NEAREST, EK_BOX, EK_BILINEAR, EK_HAMMING, EK_BICUBIC, EK_LANCZOS };
enum { EK_NCHW, EK_NHWC };

typedef struct {
  int height, width, channels; /* of the tensor */
  int layout, bgr, filter;
  int shorter;                 /* what the shorter side is resized to, 0: see resize */
  int resize_height, resize_width; /* what is resized to before the centre is cut out */
  int bars;                        /* grey beside a picture that is shown whole, -1: it fills the tensor */
  const float *factor, *offset;    /* of each channel: byte * factor + offset */
} ek_image_rule;

/* Element `k` of the tensor, of bytes of the tensor's height, width and channels. */
static float ek_image_value(const uint8_t *pixels, const ek_image_rule *rule, size_t k) {
  const size_t area = (size_t)rule->height * rule->width, channels = (size_t)rule->channels;
  const size_t c = rule->layout == EK_NCHW ? k / area : k % channels;
  const size_t pixel = rule->layout == EK_NCHW ? k % area : k / channels;
  const size_t from = rule->bgr ? channels - 1 - c : c;
  return (float)pixels[pixel * channels + from] * rule->factor[c] + rule->offset[c];
}
