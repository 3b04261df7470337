/* Dense values, in logical order (N, C, spatial), in memory of any layout and type, and back. */
#ifndef CLNORM_CASES_PLACE_H
#define CLNORM_CASES_PLACE_H

#include <clnorm/clnorm.h>

/* Layouts that cases have: name, text, channels last, block of channels, what the memory has more than the tensor:
 * channels (the tensor is a slice of them), columns and rows. */
#define CLNORM_LAYOUT_LIST(X)                                                                      \
  X(CLNORM_LAYOUT_NCHW, "nchw", false, 1, 0, 0, 0)                                                 \
  X(CLNORM_LAYOUT_NHWC, "nhwc", true, 1, 0, 0, 0)                                                  \
  X(CLNORM_LAYOUT_NCHW4C, "nchw4c", false, 4, 0, 0, 0)                                             \
  X(CLNORM_LAYOUT_NCHW8C, "nchw8c", false, 8, 0, 0, 0)                                             \
  X(CLNORM_LAYOUT_NCHW16C, "nchw16c", false, 16, 0, 0, 0)                                          \
  X(CLNORM_LAYOUT_PADDED, "padded", false, 1, 1, 3, 1)                                             \
  X(CLNORM_LAYOUT_SLICE, "slice", false, 1, 5, 0, 0)                                               \
  X(CLNORM_LAYOUT_NHWC_SLICE, "nhwc_slice", true, 1, 5, 0, 0)

typedef enum clnorm_layout {
#define CLNORM_LAYOUT_ENUM(name, text, last, block, channels, columns, rows) name,
  CLNORM_LAYOUT_LIST(CLNORM_LAYOUT_ENUM)
#undef CLNORM_LAYOUT_ENUM
      CLNORM_NUM_LAYOUTS
} clnorm_layout;

const char *clnorm_layout_name(clnorm_layout layout);
/* A tensor of this layout; dims[rank] as clnorm_tensor_nchw takes them. */
void clnorm_layout_tensor(clnorm_tensor *tensor, clnorm_layout layout, int32_t dtype, int32_t rank,
                          const int64_t *dims);

/* A value as elements of the type hold it: rounded once, to nearest even. */
double clnorm_rounded(int32_t dtype, double value);

/* Writes dense values to the elements of a tensor, rounded once; nothing between them is touched. */
void clnorm_place(const clnorm_tensor *tensor, const double *values, void *memory);
/* Reads them. */
void clnorm_unplace(const clnorm_tensor *tensor, const void *memory, double *values);
/* Copies the bytes of a tensor's elements from memory to other memory of the same layout, and with them the tail of
 * the last channel block if the tensor owns it. */
void clnorm_place_again(const clnorm_tensor *tensor, const void *from, void *to);
/* The tail that the tensor owns is +0 (or it owns none). */
bool clnorm_tail_is_zero(const clnorm_tensor *tensor, const void *memory);

#endif
