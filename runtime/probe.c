/*
 * What this machine offers, found out by asking it: never by a version number.
 */
#include "built.h"
#include "model.h"
#include "offload.h"
#include "sluice.h"
#include "backends/backend.h"
#include "base/clock.h"
#include "tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static struct sluice_feature *add(struct sluice_probe *p, const char *name, bool have,
                                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static struct sluice_feature *add(struct sluice_probe *p, const char *name, bool have,
                                  const char *fmt, ...)
{
    static struct sluice_feature overflow;
    struct sluice_feature *f =
        p->count < SLUICE_FEATURES_MAX ? &p->features[p->count++] : &overflow;
    va_list ap;
    f->name = name;
    f->have = have;
    va_start(ap, fmt);
    vsnprintf(f->detail, sizeof(f->detail), fmt, ap);
    va_end(ap);
    return f;
}

/* What --tls-provider takes, the preferred one first; the last one of the list is "none". */
static void add_tls(struct sluice_probe *p)
{
    const struct sluice_tls_provider *const *tls = sluice_tls_providers;
    for (size_t i = 0; tls[i + 1]; i++)
        add(p, tls[i]->name, true, "%s; TLS provider%s", tls[i]->version(),
            i == 0 ? ", the one that auto picks" : "");
}

static void probe_backend(struct sluice_probe *p, const struct sluice_backend_ops *ops)
{
    struct sluice_backend_feature rows[16];
    int n = ops->features(rows, 16);
    for (int i = 0; i < n; i++)
        add(p, rows[i].name, rows[i].have, "%s", rows[i].detail);
}

static bool probe_ktls(struct sluice_probe *p)
{
    int err = sluice_offload_probe();
    add(p, "ktls", err == 0, "%s",
        err == 0 ? "the kernel has the tls module; long records gain by it, messages of 64 bytes "
                   "take some 2 % more instructions"
        : err == -ENOENT ? "ENOENT: this kernel has no tls module"
        : err == -ENOSYS ? "not in this build"
                         : strerror(-err));
    return err == 0;
}

static void probe_limits(struct sluice_probe *p)
{
    struct rlimit memlock = {0}, nofile = {0};
    getrlimit(RLIMIT_MEMLOCK, &memlock);
    getrlimit(RLIMIT_NOFILE, &nofile);
    if (memlock.rlim_cur == RLIM_INFINITY)
        add(p, "memlock", true, "no limit");
    else
        add(p, "memlock", geteuid() == 0 || memlock.rlim_cur >= 1u << 20, "%llu KiB%s",
            (unsigned long long)memlock.rlim_cur / 1024,
            geteuid() == 0 ? ", does not bind root" : "");
    add(p, "descriptors", nofile.rlim_cur >= 256, "%llu", (unsigned long long)nofile.rlim_cur);
}

static void probe_clock(struct sluice_probe *p)
{
    const struct sluice_clock *clk = sluice_clock();
    add(p, "invariant_tsc", clk->is_tsc,
        clk->is_tsc ? "%llu kHz, calibrated"
                    : "none: stamps are "
                      "CLOCK_MONOTONIC ns (%llu kHz)",
        (unsigned long long)clk->cycles_per_s / 1000);
}

static void probe_smt(struct sluice_probe *p)
{
    char text[80] = "";
    int fd =
        open("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? strcspn(text, "\n") : 0] = 0;
    bool shared = strpbrk(text, ",-") != NULL;
    add(p, "smt", shared, "core 0 shares its execution units with: %s",
        shared  ? text
        : n > 0 ? "nobody"
                : "not known");
}

static void name_model(char *out, size_t out_bytes, const struct sluice_model_facts *facts,
                       const struct sluice_loop *loop)
{
    enum sluice_model model = sluice_model_auto(facts, loop->be->ops == &sluice_backend_uring);
    snprintf(out, out_bytes, "%s on %s", sluice_model_name(model),
             model == SLUICE_MODEL_SINGLE ? sluice_loop_backend(loop) : "ev");
}

/* What auto takes is what it takes when asked. */
static void choose(struct sluice_probe *p, bool ktls)
{
    struct sluice_loop *loop;
    char why[160];
    const struct sluice_loop_config cfg = {.backend = "auto"};
    bool tls = sluice_tls_find(NULL)->session_create != NULL;
    const struct sluice_model_facts plain = {0}, secure = {.tls = true, .in_kernel = ktls};
    if (sluice_loop_create(&loop, &cfg, why, sizeof(why))) {
        snprintf(p->model, sizeof(p->model), "none");
        snprintf(p->model_reason, sizeof(p->model_reason), "%.120s", why);
    } else {
        name_model(p->model, sizeof(p->model), &plain, loop);
        snprintf(p->model_reason, sizeof(p->model_reason), "%.120s",
                 sluice_loop_backend_reason(loop));
    }
    snprintf(p->model_tls, sizeof(p->model_tls), "none");
    if (tls && loop)
        name_model(p->model_tls, sizeof(p->model_tls), &secure, loop);
    snprintf(p->model_tls_reason, sizeof(p->model_tls_reason), "%s",
             !loop  ? p->model_reason
             : !tls ? "this build has no TLS"
             : ktls ? "TLS in the kernel, both ways, with a cipher that it has and OpenSSL"
                    : "TLS in user space: no kernel TLS here");
    sluice_loop_destroy(loop);
}

void sluice_probe(struct sluice_probe *out)
{
    struct utsname u;
    memset(out, 0, sizeof(*out));
    if (uname(&u) == 0)
        add(out, "kernel", true, "%.40s %.60s", u.sysname, u.release);
    add(out, "liburing", strcmp(BUILT_LIBURING, "none") != 0, "%s (built with)", BUILT_LIBURING);
    add_tls(out);
    add(out, "libev", true, "%s (built with)", BUILT_LIBEV);
    probe_backend(out, &sluice_backend_uring);
    probe_backend(out, &sluice_backend_ev);
    bool ktls = probe_ktls(out);
    probe_limits(out);
    probe_clock(out);
    probe_smt(out);
    choose(out, ktls);
}
