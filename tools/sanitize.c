/* sanitize.c: loaded into every process by tools/sanitize.sh, after the address sanitizer. */
#include <dlfcn.h>
#include <stdlib.h>

/* The two sanitizers' functions have the same names, so the undefined-behaviour sanitizer, when it is told in UBSAN_OPTIONS
 * where its reports go, tells the other one, and writes to stderr.  This finds its own function. */
__attribute__((constructor)) static void send_reports(void)
{
    void *sanitizer = dlopen("libubsan.so.1", RTLD_NOW);
    void (*set_report_path)(const char *) = (void (*)(const char *))dlsym(sanitizer, "__sanitizer_set_report_path");
    set_report_path(getenv("SANITIZER_REPORTS"));
}

/* One fault for each sanitizer, to see that it is reported: neither is one for i = 0. */
int read_beyond(int i)
{
    int *volatile one = calloc(1, sizeof(int));
    const int found = one[i];
    free(one);
    return found;
}

int overflow(int i) { return i + 2147483647; }
