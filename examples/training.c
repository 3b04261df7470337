/* Trains a small network by gradient descent, on the CPU path and on a device: a convolution of 1x1, BatchNorm2d, and
 * the squared distance to what a trained layer makes of the same picture. Prints the loss of every step, which must
 * have the same bits on both, and must fall.
 *
 *   example_training [DEVICE [FOLDER]]   as for clnorm_context_create, "auto" where absent; with x.npy and y_eval.npy,
 *                                        tests/data/fer_bn1 where absent
 */
#include <clnorm/clnorm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 4, C = 8, P = 62 * 62, COUNT = N * C * P, STEPS = 10 };

static void fail(const char *text) {
  fprintf(stderr, "%s\n", text);
  exit(3);
}

/* The values of an .npy file of version 1.0, which must be COUNT floats. */
static void read_npy(const char *folder, const char *name, float *values) {
  char path[1024];
  unsigned char head[10];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file || fread(head, 1, sizeof head, file) != sizeof head) fail(path);
  fseek(file, head[8] + 256 * head[9], SEEK_CUR);
  if (fread(values, sizeof *values, COUNT, file) != COUNT) fail(path);
  fclose(file);
}

/* The network: parameters, and the memory of the layer between. */
typedef struct network {
  clnorm_context *context;
  clnorm_batchnorm *bn;
  clnorm_tensor tensor;
  /* of the layer's input, output and their gradients; of its parameters' gradients */
  clnorm_memory x, y, dy, dx, dweight, dbias;
  float mix[C][C];
} network;

static void check(const network *n, clnorm_status status) {
  if (status != CLNORM_OK) fail(clnorm_last_error(n->context));
}

static void network_make(network *n, const char *device) {
  const int64_t dims[] = {N, C, 62, 62};
  clnorm_message message;
  clnorm_batchnorm_options options;
  if (clnorm_context_create(device, NULL, &n->context, &message) != CLNORM_OK) fail(message.text);
  printf("%s\n", clnorm_context_description(n->context));
  clnorm_batchnorm_options_init(&options, sizeof options, C);
  check(n, clnorm_batchnorm_create(n->context, &options, &n->bn));
  clnorm_tensor_nchw(&n->tensor, CLNORM_F32, 4, dims);
  clnorm_memory *const tensors[] = {&n->x, &n->y, &n->dy, &n->dx};
  for (int i = 0; i < 4; i++)
    check(n, clnorm_memory_alloc(n->context, COUNT * sizeof(float), tensors[i]));
  check(n, clnorm_memory_alloc(n->context, C * sizeof(float), &n->dweight));
  check(n, clnorm_memory_alloc(n->context, C * sizeof(float), &n->dbias));
  for (int i = 0; i < C * C; i++)
    n->mix[i / C][i % C] = (i / C == i % C ? 1.0f : 0.0f) + (float)(i * 37 % 11 - 5) / 16;
}

static void network_free(network *n) {
  clnorm_memory *const all[] = {&n->x, &n->y, &n->dy, &n->dx, &n->dweight, &n->dbias};
  for (int i = 0; i < 6; i++) clnorm_memory_free(n->context, all[i]);
  clnorm_batchnorm_destroy(n->bn);
  clnorm_context_destroy(n->context);
}

/* A parameter of the layer takes a step against its gradient. */
static void descend(network *n, int32_t role, clnorm_memory gradient, float rate) {
  float values[C], gradients[C];
  check(n, clnorm_batchnorm_get(n->bn, role, CLNORM_F32, values, C));
  check(n, clnorm_memory_read(n->context, gradient, gradients, sizeof gradients));
  for (int c = 0; c < C; c++) values[c] -= rate * gradients[c];
  check(n, clnorm_batchnorm_set(n->bn, role, CLNORM_F32, values, C));
}

/* The convolution of 1x1, on the host, and its gradient. */
static void mix(const float mix[C][C], const float *x, float *mixed) {
  for (int n = 0; n < N; n++)
    for (int c = 0; c < C; c++)
      for (int p = 0; p < P; p++) {
        float sum = 0;
        for (int k = 0; k < C; k++) sum += mix[c][k] * x[(n * C + k) * P + p];
        mixed[(n * C + c) * P + p] = sum;
      }
}

static void descend_mix(network *net, const float *x, const float *gradients, float rate) {
  for (int c = 0; c < C; c++)
    for (int k = 0; k < C; k++) {
      double sum = 0;
      for (int n = 0; n < N; n++)
        for (int p = 0; p < P; p++)
          sum += (double)gradients[(n * C + c) * P + p] * x[(n * C + k) * P + p];
      net->mix[c][k] -= rate * (float)sum;
    }
}

/* One step; returns the loss before it. */
static double step(network *n, const float *x, const float *target) {
  static float values[COUNT], dy[COUNT];
  double loss = 0;
  mix(n->mix, x, values);
  check(n, clnorm_memory_write(n->context, n->x, values, sizeof values));
  const clnorm_binding forward[] = {{CLNORM_X, 0, n->x}, {CLNORM_Y, 0, n->y}};
  check(n, clnorm_batchnorm_forward(n->bn, &n->tensor, forward, 2, NULL));
  check(n, clnorm_memory_read(n->context, n->y, values, sizeof values));
  for (int i = 0; i < COUNT; i++) {
    const float distance = values[i] - target[i];
    loss += (double)distance * distance / COUNT;
    dy[i] = 2 * distance / COUNT;
  }
  check(n, clnorm_memory_write(n->context, n->dy, dy, sizeof dy));
  const clnorm_binding backward[] = {{CLNORM_X, 0, n->x},
                                     {CLNORM_DY, 0, n->dy},
                                     {CLNORM_DX, 0, n->dx},
                                     {CLNORM_DWEIGHT, 0, n->dweight},
                                     {CLNORM_DBIAS, 0, n->dbias}};
  check(n, clnorm_batchnorm_backward(n->bn, &n->tensor, backward, 5, NULL));
  check(n, clnorm_memory_read(n->context, n->dx, values, sizeof values));
  descend_mix(n, x, values, 0.02f);
  descend(n, CLNORM_WEIGHT, n->dweight, 1);
  descend(n, CLNORM_BIAS, n->dbias, 1);
  return loss;
}

int main(int argc, char **argv) {
  static float x[COUNT], target[COUNT];
  static network networks[2];
  const char *folder = argc > 2 ? argv[2] : "tests/data/fer_bn1";
  double losses[2], last = 1e30;
  int wrong = 0;
  read_npy(folder, "x.npy", x);
  read_npy(folder, "y_eval.npy", target);
  network_make(&networks[0], "cpu");
  network_make(&networks[1], argc > 1 ? argv[1] : "auto");
  for (int i = 0; i < STEPS; i++) {
    for (int k = 0; k < 2; k++) losses[k] = step(&networks[k], x, target);
    const int equal = memcmp(&losses[0], &losses[1], sizeof losses[0]) == 0;
    printf("step %2d: loss %.9f and %.9f, %s\n", i, losses[0], losses[1],
           equal ? "the same bits" : "other bits");
    wrong += !equal || !(losses[0] < last);
    last = losses[0];
  }
  for (int k = 0; k < 2; k++) network_free(&networks[k]);
  printf("%s\n", wrong ? "the loss differs, or does not fall" : "the loss falls");
  return wrong != 0;
}
