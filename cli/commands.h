/* The commands of the program, one file each. argv[0] is the command's name; the result is the exit
 * status (messages.h). Results go to standard output, messages and progress to standard error. */
#ifndef CLNORM_CLI_COMMANDS_H
#define CLNORM_CLI_COMMANDS_H

int clnorm_command_devices(int argc, char **argv);
int clnorm_command_run(int argc, char **argv);
int clnorm_command_backward(int argc, char **argv);
int clnorm_command_verify(int argc, char **argv);
int clnorm_command_bench(int argc, char **argv);
int clnorm_command_tune(int argc, char **argv);

#endif
