/* glibc.h: symbols as old as a glibc can be, so that a wheel built on a new one runs on an old one.
 *
 * setup.py puts it before every file that it compiles with glibc; so it includes nothing.  The functions named here got a
 * newer version in glibc 2.29 (exp, log, pow without SVID error handling) or moved to libc in 2.34 (threads); the older
 * ones do the same and are kept for ever.  Elsewhere than on x86-64 and arm64 nothing happens.
 */
#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#endif
#ifdef OLDEST
#define PIN(name) __asm__(".symver " #name "," #name "@" OLDEST);
PIN(exp)
PIN(log)
PIN(pow)
PIN(pthread_attr_setstacksize)
PIN(pthread_create)
PIN(pthread_join)
#undef PIN
#undef OLDEST
#endif
