/* Proves that a pool runs every job once, in at most threads_max threads with the name, niceness and signal mask promised,
 * ends its threads when idle and again at destroy, and runs jobs on the caller when no thread can be had. */
#include "base/alloc_failing.h"
#include "base/pool.h"
#include "base/test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

static _Atomic bool threads_refused;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return threads_refused ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

struct counted {
    struct pool_job job;
    _Atomic int *runs, *running, *running_max;
    struct pool *pool;
    int again; /* how often it queues itself once more */
    pthread_t ran_on;
};

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void counted_run(struct pool_job *job)
{
    struct counted *c = (struct counted *)job;
    int now = atomic_fetch_add(c->running, 1) + 1, max = *c->running_max;

    while (now > max && !atomic_compare_exchange_weak(c->running_max, &max, now)) {}
    if (c->again % 8 == 0)
        sleep_ms(1);
    c->ran_on = pthread_self();
    atomic_fetch_add(c->runs, 1);
    atomic_fetch_sub(c->running, 1);
    if (c->again-- > 0)
        pool_submit(c->pool, job);
}

static void every_job_runs_once(void **state)
{
    enum { JOBS = 200 };
    _Atomic int runs = 0, running = 0, running_max = 0;
    static struct counted jobs[JOBS];
    struct pool *pool;
    struct err err;

    (void)state;
    assert_int_equal(pool_create("test", 3, 0, 1000, &pool, &err), ST_OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct counted){
            .job.run = counted_run, .runs = &runs, .running = &running, .running_max = &running_max, .pool = pool, .again = i % 3};
        pool_submit(pool, &jobs[i].job);
    }
    pool_destroy(pool); /* waits, also for those queued by jobs */
    assert_int_equal(runs, JOBS + 67 * 1 + 66 * 2);
    assert_true(running_max >= 1 && running_max <= 3);
}

static unsigned thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned count = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

struct look {
    struct pool_job job;
    char name[16];
    int nice_level;
    bool blocks_term;
    _Atomic bool is_done;
};

static void look_run(struct pool_job *job)
{
    struct look *look = (struct look *)job;
    sigset_t set;

    pthread_getname_np(pthread_self(), look->name, sizeof look->name);
    look->nice_level = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    look->blocks_term = sigismember(&set, SIGTERM) == 1;
    look->is_done = true;
}

static void wait_for(_Atomic bool *flag)
{
    for (int i = 0; i < 5000 && !*flag; i++)
        sleep_ms(1);
    assert_true(*flag);
}

static void threads_as_promised(void **state)
{
    struct look look = {.job.run = look_run};
    unsigned before = thread_count(), now = before;
    struct pool *pool;
    sigset_t set;

    (void)state;
    assert_int_equal(pool_create("elevenchars", 2, 5, 20, &pool, NULL), ST_OK);
    assert_int_equal(thread_count(), before); /* none without work */
    for (int round = 0; round < 3; round++) {
        look.is_done = false;
        pool_submit(pool, &look.job);
        wait_for(&look.is_done);
        assert_memory_equal(look.name, "elevenchars-", 12);
        assert_int_equal(look.nice_level, 5);
        assert_true(look.blocks_term);
        for (int i = 0; i < 2000; i++) { /* idle for 20 ms: the thread ends */
            if ((now = thread_count()) == before)
                break;
            sleep_ms(2);
        }
        assert_int_equal(now, before);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    assert_int_equal(sigismember(&set, SIGTERM), 0);
    assert_int_equal(pool_waiting(pool), 0);
    pool_destroy(pool);
    pool_destroy(NULL);
}

static void without_threads(void **state)
{
    _Atomic int runs = 0, running = 0, running_max = 0;
    struct counted job = {.job.run = counted_run, .runs = &runs, .running = &running, .running_max = &running_max, .again = 3};
    struct pool *pool;

    (void)state;
    assert_int_equal(pool_create("test", 2, 0, 10, &pool, NULL), ST_OK);
    job.pool = pool;
    threads_refused = true;
    pool_submit(pool, &job.job);
    threads_refused = false;
    assert_int_equal(runs, 4);
    assert_true(pthread_equal(job.ran_on, pthread_self()));
    pool_destroy(pool);
}

static void bad_arguments(void **state)
{
    struct pool *pool;
    struct err err;

    (void)state;
    assert_int_equal(pool_create("twelve chars", 1, 0, 0, &pool, &err), ST_INVALID);
    assert_null(pool);
    assert_int_equal(pool_create("x", 0, 0, 0, &pool, &err), ST_INVALID);
    assert_int_equal(pool_create("x", 257, 0, 0, &pool, &err), ST_INVALID);
    assert_int_equal(pool_create("x", 1, 20, 0, &pool, &err), ST_INVALID);
    alloc_fail_arm(1, true);
    assert_int_equal(pool_create("x", 1, 0, 0, &pool, &err), ST_NOMEM);
    assert_true(alloc_fail_disarm());
    assert_null(pool);
}

static void *submitter(void *arg)
{
    struct counted *jobs = arg;

    for (int i = 0; i < 500; i++)
        pool_submit(jobs[i].pool, &jobs[i].job);
    return NULL;
}

static void many_submitters(void **state)
{
    static struct counted jobs[4][500];
    _Atomic int runs = 0, running = 0, running_max = 0;
    struct pool *pool;
    pthread_t threads[4];

    (void)state;
    assert_int_equal(pool_create("test", 4, 0, 0, &pool, NULL), ST_OK); /* idle_ms 0: threads come and go all the time */
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < 500; i++)
            jobs[t][i] = (struct counted){
                .job.run = counted_run, .runs = &runs, .running = &running, .running_max = &running_max, .pool = pool, .again = i % 2};
        assert_int_equal(pthread_create(&threads[t], NULL, submitter, jobs[t]), 0);
    }
    for (int t = 0; t < 4; t++)
        pthread_join(threads[t], NULL);
    pool_destroy(pool);
    assert_int_equal(runs, 4 * (500 + 250));
    assert_true(running_max <= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once), cmocka_unit_test(threads_as_promised), cmocka_unit_test(without_threads),
        cmocka_unit_test(bad_arguments),       cmocka_unit_test(many_submitters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
