/* threads.h: what `runtime` asks of the threading library: OpenMP's, or nothing where the build has none. */
#ifdef _OPENMP
#include <omp.h>
#define MINICNN_OPENMP 1
#else
#define MINICNN_OPENMP 0
#endif

/* libgomp hangs in a child that was forked after a parallel region: the child inherits a pool without its threads.
 * So the pool is given up before every fork (it is made again at the next region), and where that fails the child
 * works with one thread.  Other OpenMP libraries survive a fork by themselves. */
static int forked_with_pool = 0;
#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && !defined(_WIN32)
#include <pthread.h>
#pragma weak omp_pause_resource_all /* absent from libgomp before gcc 9 */
static int pool_survives = 0;
static void before_fork(void) { pool_survives = !omp_pause_resource_all || omp_pause_resource_all(omp_pause_soft) != 0; }
static void in_child(void) { forked_with_pool |= pool_survives; }
static void guard_forks(void) { pthread_atfork(before_fork, NULL, in_child); }
#else
static void guard_forks(void) {}
#endif
