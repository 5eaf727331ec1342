/* threads.h: what `runtime` asks of the threading library: OpenMP's, or nothing where the build has none. */
#ifdef _OPENMP
#include <omp.h>
#define MINICNN_OPENMP 1
#else
#define MINICNN_OPENMP 0
#endif

#if defined(__linux__) && defined(_OPENMP)
#define MINICNN_YIELDS
static char looking = 0; /* held by the thread that looks up how busy the machine is (spare_cpus) */
#endif

/* libgomp hangs in a child that was forked after a parallel region: the child inherits a pool without its threads.
 * So the pool is given up before every fork (it is made again at the next region), and where that fails the child
 * works with one thread.  Other OpenMP libraries survive a fork by themselves. */
static int forked_with_pool = 0;
#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && !defined(_WIN32)
#include <pthread.h>
#pragma weak omp_pause_resource_all /* absent from libgomp before gcc 9 */
static int pool_survives = 0;
static void before_fork(void)
{
    /* Asking this first also makes the linker keep libgomp, without which the weak symbol would be found nowhere. */
    pool_survives = omp_in_parallel() || !omp_pause_resource_all || omp_pause_resource_all(omp_pause_soft) != 0;
}
static void in_child(void)
{
    forked_with_pool |= pool_survives;
#ifdef MINICNN_YIELDS
    looking = 0; /* its holder was not copied */
#endif
}
static void guard_forks(void) { pthread_atfork(before_fork, NULL, in_child); }
#else
static void guard_forks(void) {}
#endif

/* libgomp ends the process when it cannot create its threads (a limit on processes or memory).  So as many are started
 * beforehand, once for every larger number that is asked for; where that fails, the regions make do with those it got. */
#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

static void *wait_for(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

static int startable(int threads) /* <= 256, the calling one counted */
{
    static int started = 1, most = 256;
    if (threads <= started || started == most) return threads < most ? threads : most;
    pthread_t others[256];
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int n = 0;
    pthread_mutex_lock(&lock); /* all of them have to live at the same time */
    while (n < threads - 1 && pthread_create(&others[n], NULL, wait_for, &lock) == 0) n++;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < n; i++) pthread_join(others[i], NULL);
    if (n < threads - 1) most = n + 1;
    started = n + 1;
    return n + 1;
}
#else
static int startable(int threads) { return threads; }
#endif

/* How many CPUs the other processes leave to us.  Beside a busy process two threads on two CPUs wait for each other
 * through whole time slices at the end of every region, and are slower than one; so a region takes no more threads than
 * there are CPUs that nobody else wants.  Looked up 20 times a second, smoothed over about a fifth of one. */
#ifdef MINICNN_YIELDS
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY 0.05 /* seconds */

/* Threads of this process that run or want to: they are not "others", whether they are ours, Python's or a library's. */
static int own_runnable(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return 1;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[64], line[512] = "";
        if (task->d_name[0] == '.' || snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", task->d_name) < 0) continue;
        FILE *file = fopen(path, "r");
        if (!file) continue;
        const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        count += name_end && name_end[1] && name_end[2] == 'R';
        fclose(file);
    }
    closedir(tasks);
    return count;
}

static int all_runnable(void) /* the 2 of "0.73 0.34 0.17 2/345 6789"; by hand: scanf would want the newest glibc */
{
    int count = 0;
    char line[128] = "";
    FILE *file = fopen("/proc/loadavg", "r");
    if (!file) return 0;
    const char *slash = fgets(line, sizeof line, file) ? strchr(line, '/') : NULL;
    fclose(file);
    if (!slash) return 0;
    for (int unit = 1; slash > line && slash[-1] >= '0' && slash[-1] <= '9' && unit < 1000000; unit *= 10)
        count += unit * (*--slash - '0');
    return count;
}

static int own_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
}

static int spare_cpus(void)
{
    static double looked, others; /* written only by the thread that holds `looking` */
    static int spare = 1 << 16;
    struct timespec clock;
    if (own_cpus() < sysconf(_SC_NPROCESSORS_ONLN)) return 1 << 16; /* pinned: who runs beside us cannot be told */
    clock_gettime(CLOCK_MONOTONIC, &clock);
    const double now = (double)clock.tv_sec + 1e-9 * (double)clock.tv_nsec;
    if (!__atomic_test_and_set(&looking, __ATOMIC_ACQUIRE)) {
        if (now - looked >= LOOK_EVERY) {
            const int found = all_runnable() - own_runnable();
            looked = now;
            others += 0.25 * ((found > 0 ? found : 0) - others);
            __atomic_store_n(&spare, (int)sysconf(_SC_NPROCESSORS_ONLN) - (int)(others + 0.5), __ATOMIC_RELAXED);
        }
        __atomic_clear(&looking, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&spare, __ATOMIC_RELAXED);
}
#else
static int spare_cpus(void) { return 1 << 16; }
#endif
