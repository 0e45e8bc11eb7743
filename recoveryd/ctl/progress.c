#include "recoveryd/ctl/progress.h"

#include "recoveryd/ctl/ctl.h"

#include <unistd.h>

#define SHOW_EVERY_NS (100 * NS_PER_MS)

void progress_begin(struct progress *p, const char *what) {
    *p = (struct progress){
        .what = what, .terminal = isatty(STDERR_FILENO) == 1, .start = clock_mono()};
}

void progress_show(void *context, uint64_t done_bytes, uint64_t total_bytes) {
    struct progress *p = context;
    char done[CTL_TEXT_BYTES];
    char total[CTL_TEXT_BYTES];
    char rate[CTL_TEXT_BYTES];
    char left[CTL_TEXT_BYTES];
    if (!p->terminal || clock_since_ns(p->shown) < SHOW_EVERY_NS)
        return;
    p->shown = clock_mono();
    double seconds = (double)clock_since_ns(p->start) / (double)NS_PER_SECOND;
    double per_second = seconds > 0 ? (double)done_bytes / seconds : 0;
    double left_ns = per_second > 0
                         ? (double)(total_bytes - done_bytes) / per_second * (double)NS_PER_SECOND
                         : 0;
    fprintf(stderr, "\r%.40s: %s of %s, %s/s, %s left\033[K", p->what,
            ctl_bytes_text(done_bytes, done), ctl_bytes_text(total_bytes, total),
            ctl_bytes_text((uint64_t)per_second, rate), ctl_duration_text((uint64_t)left_ns, left));
}

void progress_end(struct progress *p) {
    if (p->terminal)
        fprintf(stderr, "\r\033[K");
}
