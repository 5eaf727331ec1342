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
#define UNKNOWN_CPUS (1 << 16) /* more than there are threads */

/* libgomp ends the process when it cannot create its threads: a limit on processes or memory, a stack that is too large
 * (OMP_STACKSIZE), a CPU that is not there (GOMP_CPU_AFFINITY).  It keeps a pool for every thread that begins regions, and
 * lets threads of it go and makes new ones when regions become smaller and larger.  So each thread that begins regions
 * first starts twice as many, once for every larger number that is asked for, and counts on half of what it got: what
 * others take meanwhile does not come as a surprise.  Then it has its pool made, before another thread can rehearse. */
#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

#define MOST_STARTED 256
static size_t stack_size = 0; /* of OpenMP's threads, where the environment sets one */
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static __thread int started = 1, most_started = MOST_STARTED; /* of the calling thread's pool, itself included */

static void set_stack_size(size_t bytes) { stack_size = bytes; }

static void *wait_for(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

static int rehearse(int threads) /* how many may be counted on, the calling one included */
{
    pthread_t others[2 * MOST_STARTED];
    pthread_attr_t attributes;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int n = 0;
    pthread_attr_init(&attributes);
    if (stack_size) pthread_attr_setstacksize(&attributes, stack_size); /* too small a one OpenMP ignores as well */
    pthread_mutex_lock(&lock); /* all of them have to live at the same time */
    while (n < 2 * (threads - 1) && pthread_create(&others[n], &attributes, wait_for, &lock) == 0) n++;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < n; i++) pthread_join(others[i], NULL);
    pthread_attr_destroy(&attributes);
    return n / 2 + 1;
}

#if defined(__linux__) && _OPENMP >= 201511
#include <sched.h>
#define MINICNN_PLACES

static void *try_places(void *unused) /* NULL if a thread can be bound to each of OpenMP's places */
{
    for (int place = 0; place < omp_get_num_places(); place++) {
        const int count = omp_get_place_num_procs(place);
        int cpus[CPU_SETSIZE];
        cpu_set_t set;
        CPU_ZERO(&set);
        if (count > CPU_SETSIZE) continue;
        omp_get_place_proc_ids(place, cpus);
        for (int i = 0; i < count; i++)
            if (cpus[i] < CPU_SETSIZE) CPU_SET(cpus[i], &set);
        if (CPU_COUNT(&set) && sched_setaffinity(0, sizeof set, &set)) return &stack_size; /* of this thread alone */
    }
    return unused;
}

static int places_exist(void)
{
    pthread_t other;
    void *failed = NULL;
    if (omp_get_num_places() == 0) return 1;
    if (pthread_create(&other, NULL, try_places, NULL)) return 0;
    pthread_join(other, &failed);
    return failed == NULL;
}

/* CPUs to which OpenMP binds its threads, 0 if to none.  It has bound the one that loaded it already: the affinity of
 * that thread says no more how many there are. */
static int bound_cpus(void)
{
    int count = 0;
    for (int place = 0; place < omp_get_num_places(); place++) count += omp_get_place_num_procs(place);
    return count < omp_get_num_procs() ? count : omp_get_num_procs();
}
#else
static int places_exist(void) { return 1; }
static int bound_cpus(void) { return 0; }
#endif

static int startable(int threads) /* <= MOST_STARTED, the calling one counted */
{
    static int touched;
    if (threads <= started || started == most_started) return threads < most_started ? threads : most_started;
    pthread_mutex_lock(&starting);
    started = places_exist() ? rehearse(threads) : 1;
    if (started < threads) most_started = started;
#pragma omp parallel num_threads(started)
    __atomic_add_fetch(&touched, 1, __ATOMIC_RELAXED); /* makes the pool */
    pthread_mutex_unlock(&starting);
    return started;
}
#else
static void set_stack_size(size_t bytes) { (void)bytes; }
static int bound_cpus(void) { return 0; }
static int startable(int threads) { return threads; }
#endif

/* libgomp hangs in a child that was forked after a parallel region: the child inherits a pool without its threads.
 * So the pool is given up before every fork (it is made again at the next region), and where that fails the child
 * works with one thread.  Other OpenMP libraries survive a fork by themselves. */
static int forked_with_pool = 0;
#if defined(_OPENMP) && !defined(_WIN32)
#if defined(__GNUC__) && !defined(__clang__)
#pragma weak omp_pause_resource_all /* absent from libgomp before gcc 9 */
static int give_up_pool(void)
{
    /* Asking this first also makes the linker keep libgomp, without which the weak symbol would be found nowhere. */
    return !omp_in_parallel() && omp_pause_resource_all && omp_pause_resource_all(omp_pause_soft) == 0;
}
#else
static int give_up_pool(void) { return 1; }
#endif
static int pool_survives = 0;

static void before_fork(void)
{
    pthread_mutex_lock(&starting); /* its holder is not copied, and would not give it back in the child */
    pool_survives = !give_up_pool();
    started = 1; /* the pool that is made next is another one, in the child under limits of its own */
}

static void in_parent(void) { pthread_mutex_unlock(&starting); }

static void in_child(void)
{
    forked_with_pool |= pool_survives;
#ifdef MINICNN_YIELDS
    looking = 0; /* its holder was not copied */
#endif
    pthread_mutex_unlock(&starting);
}

static void guard_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }
#else
static void guard_forks(void) {}
#endif

/* How many CPUs the other processes leave to us.  Beside a busy process two threads on two CPUs wait for each other
 * through whole time slices at the end of every region, and are slower than one; so a region takes no more threads than
 * there are CPUs that nobody else wants.
 *
 * What others use is what the CPUs were neither idle for nor spent on this process, as sums over the time since the last
 * look: a count of the threads that want to run at one moment sees some that sleep already, and takes those of other
 * libraries in this process for others.  It is looked up 20 times a second, and half of the past is forgotten in less
 * than a tenth of one.  What it cannot see are threads of this very process that spin (docs/reliability.md). */
#ifdef MINICNN_YIELDS
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY 0.05 /* seconds; five of the ticks that /proc/stat counts in */
#define MEMORY 0.1      /* seconds: the past weighs MEMORY, the time since the last look as much as it lasted */

struct look { /* clocks that run on, in seconds and in ticks of all CPUs together */
    double time, own, all, left;
};

static double clock_of(clockid_t id)
{
    struct timespec clock;
    if (clock_gettime(id, &clock)) return 0;
    return (double)clock.tv_sec + 1e-9 * (double)clock.tv_nsec;
}

/* The first line of /proc/stat, "cpu  user nice system idle iowait irq softirq steal ...": all ticks, and those left to a
 * process like this one: idle, waiting for a disk, and, unless it gives way itself, spent on processes that do (nice).
 * By hand: scanf would want the newest glibc. */
static struct look look_up(double now)
{
    enum { NICE = 1, IDLE = 3, IOWAIT = 4, FIELDS = 8 }; /* guests' ticks, after these, are in user and nice already */
    struct look look = {now, clock_of(CLOCK_PROCESS_CPUTIME_ID), 0, 0};
    const int gives_way = getpriority(PRIO_PROCESS, 0) > 0, file = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    char line[256];
    const ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    const char *c = line;
    if (file >= 0) close(file);
    line[length > 0 ? length : 0] = 0;
    for (int field = 0; field < FIELDS; field++) {
        double ticks = 0;
        while (*c && *c != '\n' && (*c < '0' || *c > '9')) c++;
        while (*c >= '0' && *c <= '9') ticks = 10 * ticks + (*c++ - '0');
        look.all += ticks;
        if (field == IDLE || field == IOWAIT || (field == NICE && !gives_way)) look.left += ticks;
    }
    return look;
}

static int own_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
}

/* How many of the CPUs others used between two looks; -1 where that is not told: in a sandbox whose ticks stand still, in
 * a child of a fork, whose own clock has begun again. */
static double used_by_others(const struct look *before, const struct look *now, int cpus)
{
    const double all = now->all - before->all, own = now->own - before->own;
    if (before->time <= 0 || all <= 0 || own < 0) return -1;
    const double used = cpus * (1 - (now->left - before->left) / all) - own / (now->time - before->time);
    return used < 0 ? 0 : used > cpus ? cpus : used;
}

static int spare_cpus(void)
{
    static struct look before; /* this and `others` are touched only by the thread that holds `looking` */
    static double others;
    static int spare = UNKNOWN_CPUS;
    static double looked; /* when: read by every thread */
    const double now = clock_of(CLOCK_MONOTONIC);
    double last;
    __atomic_load(&looked, &last, __ATOMIC_RELAXED);
    if (now - last >= LOOK_EVERY && !__atomic_test_and_set(&looking, __ATOMIC_ACQUIRE)) {
        const int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
        const struct look found = look_up(now);
        const double gone = now - before.time, used = used_by_others(&before, &found, cpus);
        if (used >= 0) others += gone / (gone + MEMORY) * (used - others);
        /* Bound to some of the CPUs only: who runs on those cannot be told. */
        const int left = used < 0 || own_cpus() < cpus ? UNKNOWN_CPUS : cpus - (int)(others + 0.5);
        before = found;
        __atomic_store(&looked, &now, __ATOMIC_RELAXED);
        __atomic_store_n(&spare, left, __ATOMIC_RELAXED);
        __atomic_clear(&looking, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&spare, __ATOMIC_RELAXED);
}
#else
static int spare_cpus(void) { return UNKNOWN_CPUS; }
#endif
