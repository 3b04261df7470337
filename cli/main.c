#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "messages.h"
#include "suggest.h"

static const char help[] =
    "clnorm: batch normalization on any OpenCL device, with a CPU path of the same bits\n"
    "\n"
    "  clnorm devices                    what is there, which would be used, what is missing\n"
    "  clnorm run X.npy -o Y.npy         one batch normalization of a real tensor\n"
    "  clnorm backward X.npy DY.npy      its gradients\n"
    "  clnorm verify                     devices against the CPU path, bit by bit\n"
    "  clnorm bench                      speed beside the ceiling of the device's memory\n"
    "  clnorm tune                       measures the variants, keeps what fits the device best\n"
    "  clnorm COMMAND --help             options and an example; also: clnorm help COMMAND\n"
    "  clnorm --version\n"
    "\n"
    "example: clnorm verify --device all --suite resnet50\n"
    "\n"
    "Exit status: 0 good; 1 verification found a difference; 2 wrong usage or a bad file;\n"
    "3 no such device, or a device failed. One of several that fails is reported, and the\n"
    "others go on; then 1 if a difference was found, else 2 if an argument was wrong, else 3.\n";

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"devices", clnorm_command_devices},   {"run", clnorm_command_run},
    {"backward", clnorm_command_backward}, {"verify", clnorm_command_verify},
    {"bench", clnorm_command_bench},       {"tune", clnorm_command_tune},
};

#define NUM_COMMANDS (sizeof commands / sizeof commands[0])

/* clnorm help COMMAND is clnorm COMMAND --help. */
static void turn_round(int argc, char **argv) {
  static char option[] = "--help";
  if (argc != 3 || strcmp(argv[1], "help") != 0) return;
  argv[1] = argv[2];
  argv[2] = option;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    fputs(help, stderr);
    return CLNORM_EXIT_USAGE;
  }
  turn_round(argc, argv);
  for (size_t i = 0; i < NUM_COMMANDS; i++)
    if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
      strcmp(argv[1], "help") == 0) {
    fputs(help, stdout);
    return CLNORM_EXIT_GOOD;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("clnorm %s\n", clnorm_version());
    return CLNORM_EXIT_GOOD;
  }
  clnorm_suggestion suggestion = clnorm_suggestion_for(argv[1], strlen(argv[1]));
  for (size_t i = 0; i < NUM_COMMANDS; i++) clnorm_suggestion_try(&suggestion, commands[i].name);
  clnorm_suggestion_try(&suggestion, "--version");
  clnorm_complain("unknown %s '%s'%s; see clnorm --help", argv[1][0] == '-' ? "option" : "command",
                  argv[1], clnorm_suggestion_say(&suggestion).text);
  return CLNORM_EXIT_USAGE;
}

/* A file opened while one of the three standard streams is closed would get its number, and be written to as
 * such. Reading and writing what takes its place here fails, as on a closed stream. */
static void occupy_standard_streams(void) {
  for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
    if (fcntl(i, F_GETFD) < 0 && open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
      return;
}

int main(int argc, char **argv) {
  occupy_standard_streams();
  const int status = dispatch(argc, argv);
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  clnorm_complain("cannot write to standard output");
  return status ? status : CLNORM_EXIT_USAGE;
}
