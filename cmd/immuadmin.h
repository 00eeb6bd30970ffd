/* The commands of immuadmin: one table in immuadmin.c, one file for each. */
#ifndef CMD_IMMUADMIN_H
#define CMD_IMMUADMIN_H

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the name; the program's exit code */
    void (*help)(void);
};

#define ADMIN_ENVIRONMENT "IMMUADMIN"

int admin_import(int argc, char **argv);
void admin_import_help(void);

#endif
