/* The method table against the services of the .proto files: every method once, with its request message; and rules between columns. */
#include <stdio.h>
#include <string.h>

#include "authorization.pb-c.h"
#include "base/test.h"
#include "documents.pb-c.h"
#include "handlers/methods.h"
#include "schema.pb-c.h"

static const struct method *find(const char *path)
{
    const struct method *found = NULL;
    size_t i;

    for (i = 0; i < METHOD_COUNT; i++) {
        if (strcmp(METHODS[i].path, path) == 0) {
            assert_null(found); /* once */
            found = &METHODS[i];
        }
    }
    return found;
}

static size_t check_service(const ProtobufCServiceDescriptor *s)
{
    char path[256];
    size_t i;

    for (i = 0; i < s->n_methods; i++) {
        const struct method *m;

        snprintf(path, sizeof path, "/%s/%s", s->name, s->methods[i].name);
        if ((m = find(path)) == NULL)
            fail_msg("%s has no row", path);
        if (m->kind == RPC_UNARY || m->kind == RPC_SERVER_STREAM)
            assert_ptr_equal(m->message, s->methods[i].input);
        else
            assert_null(m->message);
    }
    return s->n_methods;
}

static void test_services(void **state)
{
    size_t count = 0;

    (void)state;
    count += check_service(&immudb__schema__immu_service__descriptor);
    count += check_service(&immudb__model__document_service__descriptor);
    count += check_service(&immudb__model__authorization_service__descriptor);
    assert_int_equal(count, METHOD_COUNT);
}

static void test_rows(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < METHOD_COUNT; i++) {
        const struct method *m = &METHODS[i];
        bool on_database = m->who == CLASS_READ || m->who == CLASS_WRITE || m->who == CLASS_ADMIN;

        assert_true((m->handler == NULL) == ((m->flags & METHOD_LATER) != 0));
        assert_true(on_database != ((m->flags & METHOD_NO_DATABASE) != 0)); /* one or the other */
        assert_true(m->who != CLASS_SYSADMIN);                              /* those calls word their refusal themselves */
        if ((m->flags & METHOD_DB_MAY_BE_CLOSED) != 0)
            assert_true(on_database);
        if (m->on_no_login == LOGIN_FAILURE_USERDATA)
            assert_int_equal(m->auth_off, AUTH_OFF_MUST_BE_ON);
    }
}

/* The published table of permissions, where it is easy to get wrong. */
static void test_classes(void **state)
{
    static const struct {
        const char *path;
        enum method_class who;
        bool in_maintenance;
    } rows[] = {
        {"/immudb.schema.ImmuService/Get", CLASS_READ, true},
        {"/immudb.schema.ImmuService/GetAll", CLASS_WRITE, true},
        {"/immudb.schema.ImmuService/Set", CLASS_WRITE, false},
        {"/immudb.schema.ImmuService/exportTx", CLASS_ADMIN, true},
        {"/immudb.schema.ImmuService/replicateTx", CLASS_ADMIN, true},
        {"/immudb.schema.ImmuService/streamSet", CLASS_WRITE, false},
        {"/immudb.schema.ImmuService/FlushIndex", CLASS_ADMIN, true},
        {"/immudb.schema.ImmuService/DatabaseHealth", CLASS_READ, false},
        {"/immudb.schema.ImmuService/SQLExec", CLASS_WRITE, false},
        {"/immudb.schema.ImmuService/UnarySQLQuery", CLASS_READ, true},
        {"/immudb.schema.ImmuService/NewTx", CLASS_SESSION, false},
        {"/immudb.schema.ImmuService/Health", CLASS_ANYBODY, true},
        {"/immudb.schema.ImmuService/ListUsers", CLASS_LOGGED_IN, true},
        {"/immudb.model.DocumentService/InsertDocuments", CLASS_WRITE, true},
        {"/immudb.model.DocumentService/SearchDocuments", CLASS_READ, true},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct method *m = find(rows[i].path);

        assert_non_null(m);
        assert_int_equal(m->who, rows[i].who);
        assert_int_equal((m->flags & METHOD_MAINTENANCE) != 0, rows[i].in_maintenance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_services), cmocka_unit_test(test_rows), cmocka_unit_test(test_classes)};

    return cmocka_run_group_tests_name("methods", tests, NULL, NULL);
}
