/* The administration program: a table of commands. Exit codes: 0 done, 1 anything else; commands with more of them say so in their help. */
#include "immuadmin.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

static int run_help(int argc, char **argv);
static int run_version(int argc, char **argv);

static const struct command COMMANDS[] = {
    {"import", "copy all databases of a running immudb server into a data folder", admin_import, admin_import_help},
    {"help", "what a command does and which options it takes", run_help, NULL},
    {"version", "version of this program", run_version, NULL},
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i].name, name) == 0)
            return &COMMANDS[i];
    return NULL;
}

static void general_help(FILE *to)
{
    fputs("immuadmin - administration of immudb\n\nUsage:\n  immuadmin COMMAND [options]\n\nCommands:\n", to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    fputs("\n\"immuadmin help COMMAND\" tells more. Options may also come from the environment (IMMUADMIN_ and the name in capitals, '_' for '-')\n"
          "and from a file in TOML form named by --config; the command line wins, then the environment, then the file.\n",
          to);
}

static int unknown(const char *name)
{
    fprintf(stderr, "Error: unknown command \"%s\" for \"immuadmin\"\nRun 'immuadmin --help' for usage.\n", name);
    return 1;
}

static int run_help(int argc, char **argv)
{
    const struct command *c;

    if (argc < 2) {
        general_help(stdout);
        return 0;
    }
    if ((c = command_find(argv[1])) == NULL)
        return unknown(argv[1]);
    if (c->help != NULL)
        c->help();
    else
        printf("immuadmin %s - %s\n", c->name, c->summary);
    return 0;
}

static int run_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("immuadmin %s\nCommit  : %s\n", IMMUDB_VERSION, config_commit());
    return 0;
}

static bool asks_for_help(const char *word) { return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0; }

int main(int argc, char **argv)
{
    const struct command *c;

    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        general_help(stdout);
        return 0;
    }
    if (asks_for_help(argv[1]))
        return run_help(1, argv);
    if ((c = command_find(argv[1])) == NULL)
        return unknown(argv[1]);
    for (int i = 2; i < argc && c->help != NULL; i++) {
        if (asks_for_help(argv[i])) {
            c->help();
            return 0;
        }
    }
    return c->run(argc - 1, argv + 1);
}
